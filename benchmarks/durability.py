"""What safety costs: the in-flight marker for each unit, and fsync for each shard."""

import os
from pathlib import Path
from time import perf_counter
from unittest import mock

from benchmarks.measure import OURS, Options, Sample, Table, in_turn
from espnet3.parallel.engine.coverage import Shard
from espnet3.parallel.engine.marker import Marker
from espnet3.parallel.engine.shards import commit

STORES, STORES_QUICK = 2_000_000, 200_000
COMMITS, COMMITS_QUICK = 300, 30


def run(options: Options) -> list[Table]:
    """Nanoseconds of a marker store; milliseconds of a commit with and without fsync."""
    stores = STORES_QUICK if options.quick else STORES
    commits = COMMITS_QUICK if options.quick else COMMITS
    marker = Table(f"Marking the unit in hand, {stores:,} times")
    marker.rows = in_turn(
        {OURS: lambda: _marked(options.place(), stores), "the loop alone": lambda: _bare(stores)},
        options.repeats,
    )
    fsync = Table(f"Committing a shard of two files, {commits} times")
    fsync.rows = in_turn(
        {
            OURS: lambda: _committed(options.place(), commits),
            "the same without fsync": lambda: _unsynced(options.place(), commits),
        },
        options.repeats,
    )
    return [marker, fsync]


def _marked(place: Path, n: int) -> Sample:
    cells = Marker(place / "marker").cells
    begin = perf_counter()
    for position in range(n):
        cells[0] = position + 1
    return {"ns/unit": 1e9 * (perf_counter() - begin) / n}


def _bare(n: int) -> Sample:
    begin = perf_counter()
    for position in range(n):
        position + 1
    return {"ns/unit": 1e9 * (perf_counter() - begin) / n}


def _committed(place: Path, n: int) -> Sample:
    seconds = 0.0
    for number in range(n):
        directory = place / f"split.{number}"
        directory.mkdir()
        for name in ("text", "score"):
            (directory / name).write_text("ELEVEN TWENTY SEVEN\n" * 100, encoding="ascii")
        begin = perf_counter()
        commit(directory, "run", 1, Shard(directory.name, number, number))
        seconds += perf_counter() - begin
    return {"ms/shard": 1000 * seconds / n}


def _unsynced(place: Path, n: int) -> Sample:
    with mock.patch.object(os, "fsync", return_value=None):
        return _committed(place, n)
