"""Being the owner of a run for a moment, to change what its ledger says."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.disk import explained
from espnet3.parallel.engine.events import EVENTS, EventLog
from espnet3.parallel.engine.ledger import Ledger, read_coverage
from espnet3.parallel.engine.lock import OwnerLock
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.order import AS_GIVEN, Order
from espnet3.parallel.engine.order_file import read_order


@dataclass(frozen=True)
class OwnedRun:
    """A run that this process owns, with nothing done to it yet."""

    run_dir: Path
    manifest: Manifest
    ledger: Ledger
    events: EventLog


def coverage_of(run_dir: Path) -> Coverage:
    """What is done and failed in a run, without owning it.

    Raises:
        FileNotFoundError: if no run began there.
        LedgerError: if its files are damaged.
    """
    manifest = Manifest.read(run_dir)
    if manifest is None:
        raise FileNotFoundError(f"no run in {run_dir} (there is no manifest.json)")
    return read_coverage(run_dir, manifest.run_id)


def order_of(run_dir: Path) -> Order:
    """The order of the items of a run, without owning it; as given where there is no run.

    Raises:
        LedgerError: if it is damaged.
    """
    manifest = Manifest.read(run_dir)
    return AS_GIVEN if manifest is None else read_order(run_dir, manifest)


@contextmanager
def own_for_a_moment(run_dir: Path) -> Iterator[OwnedRun]:
    """Own a run for the length of a `with` block, as a driver does; it is the next epoch.

    Raises:
        FileNotFoundError: if no run began there.
        RunInUse: if a driver has it.
        LedgerError: if its files are damaged.
        RunStopped: if the file system refuses something.
    """
    run_dir = run_dir.absolute()
    with explained(run_dir):
        lock = OwnerLock.acquire(run_dir)
    try:
        manifest = Manifest.read(run_dir)
        if manifest is None:
            raise FileNotFoundError(f"no run in {run_dir} any more")
        with explained(run_dir):
            ledger = Ledger.open_next_epoch(run_dir, manifest.run_id, lock.owner, lock.check)
        try:
            with EventLog(run_dir / EVENTS, ledger.epoch) as events:
                yield OwnedRun(run_dir, manifest, ledger, events)
        finally:
            ledger.close()
    finally:
        lock.release()
