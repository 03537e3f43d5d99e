"""Shard directories: their names, the `done` record that makes them count, and old offers."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet3.errors import RunStopped
from espnet3.parallel.engine.coverage import Shard
from espnet3.utils import durable

PREFIX = "split."
_NAME = re.compile(r"split\.(\d+)")
_EPOCH_DIGITS, _LEASE_DIGITS = 4, 6
_MADE_HERE = re.compile(rf"split\.1\d+(?P<epoch>\d{{{_EPOCH_DIGITS}}})\d{{{_LEASE_DIGITS}}}")


@dataclass(frozen=True)
class ShardNaming:
    """Names for the shard directories of one run and epoch.

    A name is `split.` and digits: a 1, the first position (zero-padded to the width of the last
    one), the epoch and the lease number. Names sort by position, as text and as numbers, and no
    two attempts ever share one.
    """

    n_positions: int
    epoch: int

    def shard_id(self, first: int, lease: int) -> int:
        """The number of the shard that starts at `first` under lease `lease`.

        Raises:
            RunStopped: if the epoch or the lease number needs more digits than there are.
        """
        if self.epoch >= 10**_EPOCH_DIGITS or lease >= 10**_LEASE_DIGITS:
            raise RunStopped(
                f"start {self.epoch} of this run, lease {lease}: a run has at most "
                f"{10**_EPOCH_DIGITS - 1} starts of {10**_LEASE_DIGITS - 1} leases; use another "
                "output_dir, or `resume: false`"
            )
        width = len(str(max(0, self.n_positions - 1)))
        digits = f"1{first:0{width}d}{self.epoch:0{_EPOCH_DIGITS}d}{lease:0{_LEASE_DIGITS}d}"
        return int(digits)

    def made_until_now(self, name: str) -> bool:
        """Whether `name` is a shard directory made in this epoch or an older one.

        One of another run that was here before counts too; it may have had more or fewer positions.
        """
        match = _MADE_HERE.fullmatch(name)
        return match is not None and int(match["epoch"]) <= self.epoch


def shard_name(shard_id: int) -> str:
    """Directory name of a shard."""
    return f"{PREFIX}{shard_id}"


def commit(
    directory: Path,
    run_id: str,
    epoch: int,
    shard: Shard,
    units: Mapping[str, Any] | None = None,
) -> None:
    """Make a shard count: flush its files, then write `done` last and in one step.

    `units` says what each unit took (see `unit_times`).
    """
    durable.fsync_tree(directory)
    record: dict[str, Any] = {
        "run_id": run_id,
        "epoch": epoch,
        "first": shard.first,
        "last": shard.last,
        "forward_seconds": shard.forward_seconds,
        "longest": shard.longest,
    }
    if shard.split:
        record["split"] = shard.split
    if units is not None:
        record["units"] = units
    durable.replace(directory / "done", json.dumps(record).encode() + b"\n")
    durable.fsync_path(directory.parent)


def read_done(directory: Path, run_id: str) -> Shard | None:
    """The shard that `directory` holds, or None if it was never committed for this run.

    Whoever wrote `done` may have died before its name was on disk; afterwards it is.
    """
    try:
        record: Any = json.loads((directory / "done").read_bytes())
        if record["run_id"] != run_id:
            return None
        shard = Shard(
            directory.name,
            record["first"],
            record["last"],
            float(record["forward_seconds"]),
            float(record.get("longest", 0.0)),
            tuple((int(first), int(stop)) for first, stop in record.get("split", ())),
        )
        durable.fsync_path(directory)
        durable.fsync_path(directory.parent)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return shard


def holds(directory: Path, shard: Shard, run_id: str) -> bool:
    """Whether `directory` is still the committed shard that the ledger says it is."""
    try:
        record: Any = json.loads((directory / "done").read_bytes())
        found = record["run_id"], record["first"], record["last"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(found == (run_id, shard.first, shard.last))


def find_offers(run_dir: Path, run_id: str, known: set[str]) -> list[Shard]:
    """Committed shards that no ledger names, by position: what a dead owner had in flight."""
    names = [n for n in os.listdir(run_dir) if _NAME.fullmatch(n) and n not in known]
    offers = [read_done(run_dir / name, run_id) for name in names]
    return sorted((o for o in offers if o), key=lambda shard: (shard.first, -shard.last))


def remove_leftovers(run_dir: Path, naming: ShardNaming, known: set[str]) -> int:
    """Remove the shard directories of lost attempts; return how many there were."""
    leftovers = [n for n in os.listdir(run_dir) if naming.made_until_now(n) and n not in known]
    for name in leftovers:
        shutil.rmtree(run_dir / name, ignore_errors=True)
    return len(leftovers)
