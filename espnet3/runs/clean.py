"""Removing the shards of a finished run, which are as large as its results once more."""

import os
import re
import shutil
from pathlib import Path

from espnet3.errors import DataError
from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.events import DONE
from espnet3.parallel.engine.files import SHARD, is_of_engine
from espnet3.runs.own import coverage_of, own_for_a_moment

_IN_A_SHARD = re.compile(rb"split\.1\d{10,}/")
_TEXT = 1 << 20  # bytes at the beginning of a file that are searched for paths


def clean(run_dir: str | os.PathLike[str]) -> int:
    """Remove the shards of a finished run; what it merged, its ledger and its logs stay.

    The run is known as finished from then on: a call does no item again and merges nothing, and a
    runner returns None.

    Args:
        run_dir: the run directory.

    Returns:
        How many shards were removed.

    Raises:
        DataError: if the run is not finished, or its results are in the shards alone.
        FileNotFoundError: if no run began there.
        RunInUse: if a driver has it.
        LedgerError: if its files are damaged.
        RunStopped: if the file system refuses something.
    """
    run_dir = Path(run_dir).absolute()
    _kept(run_dir, coverage_of(run_dir))  # no start is counted for a refusal
    with own_for_a_moment(run_dir) as run:
        coverage = run.ledger.coverage
        kept = _kept(run_dir, coverage)
        if coverage.cleaned is None:
            # Said first: broken off here, the rest is removed by the next call.
            run.ledger.append({"kind": "cleaned", "kept": kept})
            run.ledger.flush()
        names = [n for n in os.listdir(run.run_dir) if n.startswith(SHARD)]
        for name in names:
            run.ledger.check_owner()
            shutil.rmtree(run.run_dir / name, ignore_errors=True)
        run.events.tell("cleaned", shards=len(names))
        run.events.state(DONE, "its shards were removed")
        return len(names)


def _kept(run_dir: Path, coverage: Coverage) -> list[str]:
    """What the merge has made, by name in the run directory.

    Raises:
        DataError: as for `clean`.
    """
    why = ""
    if coverage.failed:
        why = f"{len(coverage.failed)} of its items failed; the next start does them and merges all"
    elif not coverage.sealed:
        why = f"{len(coverage.accepted)} items are done, and nothing was merged yet"
    if why:
        raise DataError(f"{run_dir} is not finished: {why}. Its shards are needed.")
    names = sorted(n for n in os.listdir(run_dir) if not is_of_engine(n))
    if not names:
        raise DataError(
            f"{run_dir} holds nothing but shards: what its runner returned was made from them, "
            "or was put elsewhere. If you do not need them any more, remove the whole directory."
        )
    for name in names:
        if path := _path_into_shard(run_dir / name):
            raise DataError(
                f"{run_dir / name} names a file in a shard ({path}...), which would be gone."
            )
    return names


def _path_into_shard(path: Path) -> str:
    """A path below a shard directory that a file names; "" if there is none in its beginning."""
    if not path.is_file():
        return ""
    with path.open("rb") as f:
        found = _IN_A_SHARD.search(f.read(_TEXT))
    return found[0].decode() if found else ""
