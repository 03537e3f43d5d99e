"""What happens when: 100 items with one fault each, and how many times `forward` was begun."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.half_way import PATIENCE, items_begun, kill, start_half_way
from benchmarks.measure import (
    ROOT,
    Options,
    Sample,
    Table,
    child,
    child_arguments,
    environment,
)

_N = 100
_RUN = "benchmarks.faulty:run"


class Case:
    """One run directory with its faults.

    Args:
        root: an empty directory.
        trouble: item -> what it does wrong.
    """

    def __init__(self, root: Path, trouble: dict[int, str]) -> None:
        self.root = root
        for name in ("log", "trouble"):
            (root / name).mkdir()
        for item, what in trouble.items():
            (root / "trouble" / str(item)).write_text(what, encoding="ascii")

    def call(self, workers: int, **how: Any) -> str:
        """Run to the end in a process of its own; returns how it ended."""
        return str(child(_RUN, {"root": self.root, "workers": workers, **how}).returned)

    def mend(self) -> None:
        """Let no item do anything wrong any more."""
        for fate in (self.root / "trouble").iterdir():
            fate.unlink()

    def begun(self) -> int:
        """How often `forward` was begun for an item, in all."""
        return len(items_begun(self.root))

    def start(self, workers: int, **how: Any) -> "subprocess.Popen[bytes]":
        """Start a driver, and wait until half of the items have begun."""
        kwargs = {"root": self.root, "workers": workers, **how}
        return start_half_way(_RUN, kwargs, self.root, _N)

    def crash(self, workers: int) -> str:
        """Run in a process that an item kills; returns its status."""
        kwargs = {"root": self.root, "workers": workers}
        arguments = child_arguments(_RUN, kwargs, self.root / "result")
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment(), check=False
        )
        return f"driver killed by signal {-done.returncode}"


def _one_bad_item(case: Case, **how: Any) -> list[str]:
    first = case.call(2, **how)
    case.mend()
    return [first, case.call(2, **how)]


def _worker_killed(case: Case) -> list[str]:
    driver = case.start(2)
    logs = {int(path.name) for path in (case.root / "log").iterdir()}
    os.kill(min(logs), signal.SIGKILL)
    driver.wait()
    return [case.call(2)]


def _killer_in_process(case: Case) -> list[str]:
    return [case.crash(1), case.crash(1), case.call(1), case.call(1, on_error="skip")]


def _driver_killed(case: Case, before: int, after: int) -> list[str]:
    driver = case.start(before)
    kill(driver, patience=PATIENCE)
    return ["killed", case.call(after)]


def _two_drivers(case: Case) -> list[str]:
    driver = case.start(2)
    second = case.call(2)
    driver.wait()
    return [second, case.call(2)]


CASES: dict[str, tuple[dict[int, str], Any]] = {
    "nothing, 2 workers": ({}, lambda case: [case.call(2)]),
    "one bad item, then mended": ({41: "raise"}, _one_bad_item),
    "one bad item, `on_error: skip`": (
        {41: "raise"},
        lambda case: [case.call(2, on_error="skip")],
    ),
    "one bad item, `batch_size: 8`, then mended": (
        {41: "raise"},
        lambda case: _one_bad_item(case, batch_size=8),
    ),
    "one worker killed (SIGKILL)": ({}, _worker_killed),
    "an item that always kills, 2 workers": (
        {41: "kill"},
        lambda case: [case.call(2), case.call(2, on_error="skip")],
    ),
    "an item that always kills, in process": ({41: "kill"}, _killer_in_process),
    "an item that hangs in C, `unit_timeout: 1`": (
        {41: "hang"},
        lambda case: [case.call(2, unit_timeout=1, on_error="skip")],
    ),
    "driver killed half-way, 2 then 2 workers": ({}, lambda case: _driver_killed(case, 2, 2)),
    "driver killed half-way, 2 then 3 workers": ({}, lambda case: _driver_killed(case, 2, 3)),
    "driver killed half-way, in process": ({}, lambda case: _driver_killed(case, 1, 1)),
    "two drivers": ({}, _two_drivers),
}


def run(options: Options) -> list[Table]:
    """Every case, with the forwards that were begun; 100 are needed where nothing goes wrong."""
    table = Table(f"{_N} items of 20 ms, one fault")
    for name, (trouble, play) in CASES.items():
        rounds: list[Sample] = []
        for _ in range(options.repeats):
            case = Case(options.place(), trouble)
            endings = play(case)
            rounds.append({"forwards begun": case.begun()})
            note = f"{name}: {', then '.join(endings)}"
            if note not in table.notes:
                table.notes.append(note)
        table.rows[name] = rounds
    return [table]
