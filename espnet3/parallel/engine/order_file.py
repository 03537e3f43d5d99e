"""`order.<run id>.u32`: the order of a run (see `Order`), kept as long as the run is.

It is written before the manifest that names its digest, so a run never begins without it. The
manifest of a run that was set aside still finds its own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from espnet3.errors import LedgerError
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.order import AS_GIVEN, Order, digest
from espnet3.utils import durable

ORDERS = "order.*.u32"


def order_path(run_dir: Path, run_id: str) -> Path:
    """Where the order of a run lies."""
    return run_dir / f"order.{run_id}.u32"


def write_order(
    run_dir: Path, run_id: str, order: Order, check: Callable[[], None]
) -> dict[str, Any] | None:
    """Write an order that is not simply `indices`; give what the manifest says of it.

    Args:
        run_dir: the run directory.
        run_id: of the run that is about to begin.
        order: of that run.
        check: raises if the run directory is another driver's by now.
    """
    if not order:
        return None
    data = order.to_bytes()
    durable.replace(order_path(run_dir, run_id), data, check)
    return {"digest": digest(data), "window": order.window, "limit": order.limit}


def read_order(run_dir: Path, manifest: Manifest) -> Order:
    """The order of the run that a directory holds.

    Raises:
        LedgerError: if it is gone or damaged.
    """
    if manifest.order is None:
        return AS_GIVEN
    path = order_path(run_dir, manifest.run_id)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be read ({error.strerror}). Without the order of its items nobody "
            f"knows whose results the shards of {run_dir} hold; put the file back, or do all items "
            "again with `resume: false`."
        ) from error
    if digest(data) != manifest.order["digest"] or len(data) != 4 * manifest.positions:
        raise LedgerError(
            f"{path} is damaged: it is not the order that manifest.json names. Put the file back "
            "from a copy, or do all items again with `resume: false`."
        )
    return Order.from_bytes(data, manifest.order["window"], manifest.order["limit"])


def remove_other_orders(run_dir: Path, run_id: str) -> None:
    """Remove the orders of runs that nobody can go on with any more."""
    for path in run_dir.glob(ORDERS):
        if path != order_path(run_dir, run_id):
            path.unlink(missing_ok=True)
