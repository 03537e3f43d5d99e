"""Opening a run directory as its owner: lock, manifest, epoch, what a dead owner left."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet3.errors import RunStopped
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine import shards
from espnet3.parallel.engine.begin import SET_ASIDE, begin, go_on
from espnet3.parallel.engine.coverage import Shard, shard_entries
from espnet3.parallel.engine.disk import explained
from espnet3.parallel.engine.inherited import offers, to_retry
from espnet3.parallel.engine.ledger import Ledger, read_coverage
from espnet3.parallel.engine.lock import OwnerLock
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.marker import take_driver_marker
from espnet3.parallel.engine.order import Order
from espnet3.parallel.engine.order_file import read_order, remove_other_orders
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.visible import still_missing
from espnet3.parallel.engine.work import Work

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenRun:
    """A run directory that this process owns."""

    run_dir: Path
    manifest: Manifest
    ledger: Ledger
    order: Order
    plan: Plan
    in_flight: int | None = None
    """The place that a former driver had in hand when it died, if it worked in process."""


@dataclass(frozen=True)
class RunSummary:
    """What a run directory tells about its run, live or dead.

    Attributes:
        positions: number of items.
        accepted: items with committed results.
        failed: items that failed and have not been retried.
        forward_seconds: seconds in `forward`, over the accepted items.
        finished: the last merge covers all that is accepted.
    """

    positions: int
    accepted: int
    failed: int
    forward_seconds: float
    finished: bool


def read_summary(run_dir: str | Path) -> RunSummary:
    """Summarise a run from its directory alone; takes no lock and changes nothing.

    Raises:
        FileNotFoundError: if no run began there.
        LedgerError: if its files are damaged.
    """
    run_dir = Path(run_dir)
    manifest = Manifest.read(run_dir)
    if manifest is None:
        raise FileNotFoundError(f"no run in {run_dir} (there is no manifest.json)")
    coverage = read_coverage(run_dir, manifest.run_id)
    return RunSummary(
        positions=manifest.positions,
        accepted=len(coverage.accepted),
        failed=len(coverage.failed),
        forward_seconds=coverage.forward_seconds,
        finished=coverage.sealed,
    )


@contextmanager
def own_run(
    run_dir: Path,
    items: Sequence[Any],
    work: Work,
    identity: Mapping[str, Any],
    config: RunConfig,
    *,
    resume: bool = True,
    code: Mapping[str, str] | None = None,
) -> Iterator[OpenRun]:
    """Own `run_dir` for the length of a `with` block, ready to go on where it stands.

    `code` holds a hash of each of the user's modules, if they are known: edits of them are told.

    Raises:
        RunInUse: if another driver owns it.
        OwnershipLost: if another driver took it over meanwhile.
        IdentityChanged: if it holds a run over other items or with another setup, or a finished one
            of other code.
        LedgerError: if its files are damaged; nothing was changed.
        RunStopped: if the file system refuses something (disk full, read-only, no permission).
    """
    run_dir = run_dir.absolute()  # whatever user code does to the working directory
    with explained(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = OwnerLock.acquire(run_dir, overwrite=config.allow_overwrite_lock)
    try:
        with explained(run_dir):
            manifest = Manifest.read(run_dir) if resume else None
            if manifest is None:
                order = work.new_order()
                manifest = Manifest.new(items, work.batch_size, identity, code)
                manifest = begin(manifest, run_dir, identity, lock.check, order)
            else:
                order = read_order(run_dir, manifest)
                manifest = go_on(
                    manifest,
                    run_dir,
                    items,
                    identity,
                    code,
                    config.accept_changes,
                    lock.check,
                    work.any_order,
                )
            plan = work.plan(order)
            ledger = Ledger.open_next_epoch(run_dir, manifest.run_id, lock.owner, lock.check)
        try:
            with explained(run_dir):
                (run_dir / "logs").mkdir(exist_ok=True)
                _take_offers(run_dir, manifest, ledger, plan)
                _drop_missing(run_dir, manifest.run_id, ledger)
                _retry_failed(run_dir, ledger, config.max_kills)
                ledger.check_owner()  # the markers there may be a newer owner's by now
                in_flight = take_driver_marker(run_dir)
                owned = OpenRun(run_dir, manifest, ledger, order, plan, in_flight)
            yield owned
        finally:
            ledger.close()
    finally:
        lock.release()


def seal(run: OpenRun) -> None:
    """After a completed merge: say so in the ledger, remove what no ledger names."""
    run.ledger.append({"kind": "merged"})
    run.ledger.flush()
    run.ledger.check_owner()
    with explained(run.run_dir):
        _remove_rubbish(run)


def _remove_rubbish(run: OpenRun) -> None:
    known = {shard.name for shard in run.ledger.coverage.shards.values()}
    naming = shards.ShardNaming(run.manifest.positions, run.ledger.epoch)
    removed = shards.remove_leftovers(run.run_dir, naming, known)
    if removed:
        logger.info("removed %d shard directories that do not count any more", removed)
    for name in SET_ASIDE:
        (run.run_dir / name).unlink(missing_ok=True)
    remove_other_orders(run.run_dir, run.manifest.run_id)
    for half_written in run.run_dir.glob(".*.tmp"):  # by a process that was killed
        half_written.unlink(missing_ok=True)


def check_shards(run: OpenRun) -> list[Path]:
    """The directories of all accepted shards by position, ready to be merged.

    Raises:
        RunStopped: if some are gone; their positions will be done again by the next call.
        OwnershipLost: if another driver took the run over.
    """
    run.ledger.check_owner()
    gone = _drop_missing(run.run_dir, run.manifest.run_id, run.ledger)
    if gone:
        raise RunStopped(
            f"{len(gone)} shard directories of {run.run_dir} are gone, the first is {gone[0]}; "
            "somebody removed them, or a worker wrote elsewhere. Nothing was merged; run the same "
            "command again (without `resume: false`) to do their items again."
        )
    return [run.run_dir / shard.name for shard in run.ledger.coverage.shards_in_order()]


def _drop_missing(run_dir: Path, run_id: str, ledger: Ledger) -> list[str]:
    """Take back what the ledger says of shards that are not there any more; give their names."""
    if ledger.coverage.cleaned is not None:
        return []
    accepted = ledger.coverage.shards_in_order()

    def is_there(shard: Shard) -> bool:
        return shards.holds(run_dir / shard.name, shard, run_id)

    gone = still_missing(run_dir, [s for s in accepted if not is_there(s)], is_there)
    if gone:
        ledger.append(
            *({"kind": "dropped", "first": shard.first, "last": shard.last} for shard in gone)
        )
        logger.warning("%d shard directories are gone; their items are to be done again", len(gone))
    return [shard.name for shard in gone]


def _take_offers(run_dir: Path, manifest: Manifest, ledger: Ledger, plan: Plan) -> None:
    for offer in offers(run_dir, manifest, ledger.coverage):
        ledger.append(*shard_entries(offer, plan))
        logger.info("took over %s, finished by a former owner's worker", offer.name)


def _retry_failed(run_dir: Path, ledger: Ledger, max_kills: int) -> None:
    again = to_retry(ledger.coverage, max_kills)
    if again:
        ledger.append({"kind": "retry", "positions": again})
        logger.info("%s: retrying %d items that failed before", run_dir.name, len(again))


def check_kept(run: OpenRun) -> None:
    """Make sure that what was merged is there, in a run whose shards were removed.

    Raises:
        RunStopped: if some of it is gone.
    """
    kept = run.ledger.coverage.cleaned or ()
    gone = [name for name in kept if not (run.run_dir / name).exists()]
    if gone:
        raise RunStopped(
            f"{run.run_dir / gone[0]} is gone, and the shards that it was merged from were removed "
            "by `espnet3 clean`. Put it back, or do all items again with `run: {resume: false}`."
        )
