"""The times of a run's units, with their lengths and names, from its shards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from espnet3.errors import DataError
from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.durations import read_durations
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.order_file import read_order
from espnet3.parallel.engine.unit_times import from_record
from espnet3.report.record import Units
from espnet3.runs.unit_times import named_units, read_done
from espnet3.utils.scp import read_scp


def read_units(
    run_dir: Path, manifest: Manifest, coverage: Coverage
) -> tuple[Units, Callable[[int], str]]:
    """The units, and what names the item at a place.

    Args:
        run_dir: the run directory.
        manifest: of the run.
        coverage: what is accepted, and the failed items, which are named there.
    """
    order = read_order(run_dir, manifest)
    names = {place: coverage.name_of(place, order) for place in coverage.failed}
    first: list[int] = []
    stop: list[int] = []
    seconds: list[float] = []
    for shard in coverage.shards_in_order():
        done = read_done(run_dir, shard, manifest.run_id)
        for unit in from_record(done):
            first.append(unit.first)
            stop.append(unit.stop)
            seconds.append(unit.seconds)
        names |= named_units(done, order)
    units = Units(np.array(first, np.int64), np.array(seconds), np.full(len(first), np.nan))
    durations = read_durations(run_dir)
    if durations is not None and len(durations) == manifest.positions and first:
        before = np.concatenate([[0.0], np.cumsum(np.array(durations, np.float64))])
        units = Units(units.first, units.seconds, before[stop] - before[first])

    def name_of(place: int) -> str:
        unknown = f"#{order.position(place)}"
        if names.get(place, unknown) == unknown:
            names[place] = _name_in_shard(run_dir, coverage, place) or unknown
        return names[place]

    return units, name_of


def _name_in_shard(run_dir: Path, coverage: Coverage, place: int) -> str:
    """The id in an scp file of the shard, if that has one line for each of its items; else ""."""
    for shard in coverage.shards.values():
        if shard.first <= place < shard.stop:
            for path in sorted((run_dir / shard.name).glob("*.scp")):
                with suppress(OSError, DataError):
                    ids = list(read_scp(path))
                    if len(ids) == shard.stop - shard.first:
                        return ids[place - shard.first]
    return ""
