"""What each unit of a run took, read from its shards."""

import heapq
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet3.parallel.engine.coverage import Shard
from espnet3.parallel.engine.durations import read_durations
from espnet3.parallel.engine.ledger import read_coverage
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.order import AS_GIVEN, Order
from espnet3.parallel.engine.order_file import read_order
from espnet3.parallel.engine.unit_times import UnitTime, from_record
from espnet3.runs.views import SlowItem


@dataclass(frozen=True)
class UnitRecord(UnitTime):
    """What one unit took, and of what.

    Attributes:
        positions: of its items; with batches by length they are no neighbours.
        audio: seconds of audio in it; None if unknown.
        shard: name of the shard that it is in.
    """

    positions: Sequence[int]
    audio: float | None
    shard: str


def unit_times(run_dir: str | os.PathLike[str]) -> Iterator[UnitRecord]:
    """What each finished unit of a run took, in the order in which they were to be done.

    Nothing comes of shards of older versions, of runs of more than 4 million units, which do not
    keep it, and of shards that were removed.

    Args:
        run_dir: the run directory.

    Raises:
        LedgerError: if the run's files are damaged.
    """
    run_dir = Path(run_dir)
    manifest = Manifest.read(run_dir)
    if manifest is None:
        return
    durations, order = read_durations(run_dir), read_order(run_dir, manifest)
    for shard in read_coverage(run_dir, manifest.run_id).shards_in_order():
        for unit in from_record(read_done(run_dir, shard, manifest.run_id)):
            audio = audio_of(durations, unit.first, unit.stop)
            positions = order.positions(unit.first, unit.stop)
            yield UnitRecord(unit.first, unit.stop, unit.seconds, positions, audio, shard.name)


def slowest(
    run_dir: Path,
    run_id: str,
    shards: Iterable[Shard],
    n: int,
    durations: "array[float] | None",
    order: Order = AS_GIVEN,
) -> list[SlowItem]:
    """The `n` slowest units. No more than `n` shards are read: those that hold the longest units.

    Where a shard does not say what its units took, its longest one stands for the shard's range.
    """
    found: list[SlowItem] = []
    for shard in heapq.nlargest(n, shards, key=lambda shard: shard.longest):
        done = read_done(run_dir, shard, run_id)
        units = from_record(done)
        names = named_units(done, order)
        for unit in heapq.nlargest(n, units, key=lambda unit: unit.seconds):
            positions = tuple(order.positions(unit.first, unit.stop))
            name = names.get(unit.first, f"#{positions[0]}")
            audio = audio_of(durations, unit.first, unit.stop)
            found.append(SlowItem(positions, name, unit.seconds, audio))
    return sorted(found, key=lambda item: -item.seconds)[:n]


def read_done(run_dir: Path, shard: Shard, run_id: str) -> Mapping[str, Any]:
    """The `done` record of a shard; empty if it is not there (any more)."""
    try:
        done = json.loads((run_dir / shard.name / "done").read_bytes())
    except (OSError, ValueError):
        return {}
    return done if isinstance(done, dict) and done.get("run_id") == run_id else {}


def audio_of(durations: "array[float] | None", first: int, stop: int) -> float | None:
    """Seconds of audio at places [first, stop); None if unknown."""
    if durations is None or stop > len(durations):
        return None
    return sum(durations[first:stop])


def named_units(done: Mapping[str, Any], order: Order = AS_GIVEN) -> dict[int, str]:
    """First place -> name, of the units that a `done` record names: the slowest of the shard."""
    try:
        names = {int(first): str(name) for first, _, name in done["units"]["slowest"]}
    except (LookupError, TypeError, ValueError):
        return {}
    # A worker whose data knows no ids has named the place.
    return {
        first: f"#{order.position(first)}" if name == f"#{first}" else name
        for first, name in names.items()
    }
