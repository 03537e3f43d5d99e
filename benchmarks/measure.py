"""Measuring: child processes, rounds in turn, tables of medians."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, mkdtemp
from time import perf_counter
from typing import Any

OURS = "espnet3"
ROOT = Path(__file__).parents[1]
_TIMEOUT = 1200.0

Sample = Mapping[str, float]
"""What one round measured, by quantity."""


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        repeats: rounds of each comparison.
        quick: smaller sizes, to see that everything works.
        directory: for files; empty and removed afterwards.
    """

    repeats: int
    quick: bool
    directory: Path

    def place(self) -> Path:
        """A new empty directory."""
        return Path(mkdtemp(dir=self.directory))


@dataclass
class Table:
    """One comparison: rows of who, columns of quantities.

    Attributes:
        title: what was done.
        rows: the rounds of each, by name. The first row is what the others are compared with.
        notes: what else was seen, one sentence each.
        compared: whether there is a column for the ratio to the first row.
    """

    title: str
    rows: dict[str, list[Sample]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    compared: bool = True

    def quantities(self) -> list[str]:
        """The columns; the first one is that of the ratio."""
        return list(dict.fromkeys(q for rounds in self.rows.values() for q in rounds[0]))

    def ratio(self, who: str) -> float | None:
        """The first quantity over that of the first row: the median over the rounds' pairs.

        None if rows are not compared, or the first row has a zero.
        """
        if not self.compared:
            return None
        quantity, reference = self.quantities()[0], next(iter(self.rows.values()))
        if not all(of_first[quantity] for of_first in reference):
            return None
        pairs = zip(self.rows[who], reference, strict=True)
        return median(row[quantity] / of_first[quantity] for row, of_first in pairs)

    def as_data(self) -> dict[str, Any]:
        """Plain data, with every single value."""
        rows = [
            {"who": who, "ratio": self.ratio(who), "rounds": [dict(r) for r in rounds]}
            for who, rounds in self.rows.items()
        ]
        return {"title": self.title, "rows": rows, "notes": self.notes}

    def as_markdown(self) -> str:
        """A table of medians, each with its lowest and highest value."""
        lines = [f"### {self.title}", ""]
        if self.rows:
            quantities = self.quantities()
            header = ["", *quantities]
            if self.compared:
                header.insert(2, f"/ {next(iter(self.rows))}")
            lines += [f"| {' | '.join(header)} |", "| --- " + "| ---: " * (len(header) - 1) + "|"]
            for who, rounds in self.rows.items():
                cells = [_cell([r[q] for r in rounds if q in r]) for q in quantities]
                ratio = self.ratio(who)
                if self.compared:
                    cells.insert(1, "" if ratio is None else f"{ratio:.3g}")
                lines.append(f"| {' | '.join([who, *cells])} |")
            lines.append("")
        lines += [f"- {note}" for note in self.notes]
        return "\n".join(lines).rstrip()


def in_turn(
    variants: Mapping[str, Callable[[], Sample]], repeats: int, *, warm_up: bool = False
) -> dict[str, list[Sample]]:
    """Measure variants in turn, A B C A B C ..., so that a change of the machine meets them all.

    Args:
        variants: by name; each call is one round of it.
        repeats: rounds.
        warm_up: one round first that does not count, to fill the file cache.
    """
    if warm_up:
        for measure in variants.values():
            measure()
    rounds: dict[str, list[Sample]] = {who: [] for who in variants}
    for _ in range(repeats):
        for who, measure in variants.items():
            rounds[who].append(measure())
    return rounds


class MeasurementFailed(Exception):
    """A measured process failed, or did not do what was to be measured."""


@dataclass(frozen=True)
class Child:
    """A measured process.

    Attributes:
        seconds: from its start to its end, as seen from outside.
        peak_mib: its peak resident memory.
        returned: what the function returned.
    """

    seconds: float
    peak_mib: float
    returned: Any


def python(
    arguments: Sequence[str], cwd: Path = ROOT, timeout: float = _TIMEOUT
) -> tuple[float, str]:
    """Run this Python to its end in a process of its own; returns seconds and what it printed."""
    begin = perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementFailed(f"nothing after {timeout:.0f} s: {error.cmd}"[:400]) from error
    seconds = perf_counter() - begin
    if done.returncode != 0:
        said = "\n".join(done.stderr.splitlines()[-15:])
        raise MeasurementFailed(
            f"{' '.join(arguments)[:300]} ended with {done.returncode}:\n{said}"
        )
    return seconds, done.stdout


def child(
    function: str, kwargs: Mapping[str, Any], cwd: Path = ROOT, timeout: float = _TIMEOUT
) -> Child:
    """Call ``module:function`` in a process of its own; paths among `kwargs` become strings."""
    with TemporaryDirectory() as directory:
        result = Path(directory) / "result.json"
        seconds, _ = python(child_arguments(function, kwargs, result), cwd, timeout)
        data = json.loads(result.read_bytes())
    return Child(seconds, data["peak_mib"], data["returned"])


def child_arguments(function: str, kwargs: Mapping[str, Any], result: Path) -> list[str]:
    """Arguments of Python for a call in a process of its own."""
    return ["-m", "benchmarks.child", function, json.dumps(kwargs, default=str), str(result)]


def environment() -> dict[str, str]:
    """Environment of measured processes: they find this package from any directory."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path}


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle, low, high = (_number(v) for v in (median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
