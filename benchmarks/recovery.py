"""A driver that is killed half-way: what is done again, and whether the bytes are the same."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.half_way import PATIENCE, items_begun, kill, start_half_way
from benchmarks.measure import OURS, Options, Sample, Table, child

N, N_QUICK = 1000, 300
SECONDS = 0.01
KILLS = ((2, 3), (3, 1), (1, 2))
"""Workers before and after."""


def run(options: Options) -> list[Table]:
    """Bytes for one, two and three workers; then of killed runs, with the repeated work."""
    n = N_QUICK if options.quick else N
    loop = _Run(options.place(), n, peers.LOOP)
    loop.call(1)
    expected = loop.merged.read_bytes()
    same = Table("Merged bytes against those of a plain loop")
    for workers in (1, 2, 3):
        ours = _Run(options.place(), n, OURS)
        ours.call(workers)
        same.notes.append(f"{workers} workers: {_verdict(ours.merged.read_bytes(), expected)}")
    table = Table(f"{n} items of {SECONDS * 1000:.0f} ms, kill -9 of the driver half-way, rerun")
    cases = [(OURS, before, after) for before, after in KILLS] + [(peers.STATIC, 2, 2)]
    for how, before, after in cases:
        who = f"{how}, {before} then {after} workers"
        rounds = []
        for _ in range(options.repeats):
            killed = _Run(options.place(), n, how)
            rounds.append(_interrupted(killed, before, after, table.notes))
            table.notes.append(f"{who}: {_verdict(killed.merged.read_bytes(), expected)}")
        table.rows[who] = rounds
    counts = Counter(table.notes)
    table.notes = [f"{note} ({count} of {options.repeats})" for note, count in counts.items()]
    return [same, table]


class _Run:
    """One run over `n` items that log themselves, by espnet3 or by a peer.

    Args:
        root: an empty directory.
        n: items.
        how: `OURS` or a name of `peers`.
    """

    def __init__(self, root: Path, n: int, how: str) -> None:
        self.root, self.n, self.ours = root, n, how == OURS
        (root / "log").mkdir()
        self.output = root / ("run" if self.ours else "lines")
        self.merged = self.output / "lines" if self.ours else self.output
        options = {"log": str(root / "log"), "seconds": SECONDS}
        self._function = "benchmarks.runners:run" if self.ours else "benchmarks.peers:run"
        self._kwargs: dict[str, Any] = {"task": "logged", "n": n, "options": options}
        self._kwargs |= {"out": str(self.output)} | ({} if self.ours else {"how": how})

    def call(self, workers: int) -> None:
        """Run to the end."""
        child(self._function, {**self._kwargs, "workers": workers})

    def call_and_kill(self, workers: int) -> bool:
        """Kill the driver when half of the items have begun; wait until all its processes are gone.

        Returns:
            Whether the processes of the driver ended by themselves.
        """
        kwargs = {**self._kwargs, "workers": workers}
        driver = start_half_way(self._function, kwargs, self.root, self.n)
        return kill(driver, patience=PATIENCE if self.ours else 0)

    def kept_and_in_flight(self) -> tuple[int, int]:
        """Items whose results are kept, and shards that were begun but are not kept."""
        if not self.ours:
            kept = list(self.root.glob("lines.*[0-9]"))
            count = sum(len(file.read_bytes().splitlines()) for file in kept)
            return count, len(list(self.root.glob("lines.*.tmp")))
        shards = list(self.output.glob("split.*"))
        done = [json.loads(f.read_bytes()) for s in shards if (f := s / "done").exists()]
        return sum(d["last"] + 1 - d["first"] for d in done), len(shards) - len(done)


def _interrupted(killed: _Run, before: int, after: int, notes: list[str]) -> Sample:
    if not killed.call_and_kill(before) and killed.ours:
        notes.append(f"workers outlived their driver by {PATIENCE:.0f} s")
    begun = len(set(items_begun(killed.root)))
    kept, in_flight = killed.kept_and_in_flight()
    killed.call(after)
    return {
        "items done again": len(items_begun(killed.root)) - killed.n,
        "of those begun": begun,
        "begun, not kept": begun - kept,
        "leases in flight": in_flight,
    }


def _verdict(merged: bytes, expected: bytes) -> str:
    return "identical" if merged == expected else "DIFFERENT"
