"""A driver in a process of its own that has come half-way, to be disturbed there."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.measure import ROOT, MeasurementFailed, child_arguments, environment

PATIENCE = 60.0
"""Seconds that a run may take for its half, or its processes to end."""


def items_begun(root: Path) -> list[int]:
    """The items in the order of the logs in `root`, once for each time that they were begun."""
    logs = sorted((root / "log").iterdir())
    return [int(line) for log in logs for line in log.read_text(encoding="ascii").split()]


def start_half_way(
    function: str, kwargs: Mapping[str, Any], root: Path, n: int
) -> "subprocess.Popen[bytes]":
    """Call ``module:function`` in a process, and wait until half of `n` items have begun.

    Args:
        function: runs items that note themselves in `root / "log"`.
        kwargs: for it.
        root: where what it says and its result are put, too.
        n: items.

    Raises:
        MeasurementFailed: if it ended or hung before that.
    """
    arguments = child_arguments(function, kwargs, root / "result")
    return start_command([sys.executable, *arguments], root, n, cwd=ROOT)


def start_command(
    command: Sequence[str], root: Path, n: int, cwd: Path | None = None
) -> "subprocess.Popen[bytes]":
    """Do as `start_half_way`, with any command; it runs in `root` unless `cwd` is given."""
    with (root / "said").open("wb") as said:
        driver = subprocess.Popen(
            command,
            cwd=cwd or root, env=environment(), stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE
        while len(items_begun(root)) < n / 2:
            if driver.poll() is not None or time.monotonic() > deadline:
                text = (root / "said").read_text(errors="replace")[-2000:]
                raise MeasurementFailed(f"the run to be disturbed ended or hung before:\n{text}")
            time.sleep(0.005)
    except BaseException:
        below = processes_below(driver)
        driver.kill()
        driver.wait()
        for process in below:
            process.kill()
        raise
    return driver


def kill(driver: "subprocess.Popen[bytes]", *, patience: float) -> bool:
    """Kill a driver; its processes get `patience` seconds to end, and are killed then.

    Returns:
        Whether they ended by themselves.
    """
    below = processes_below(driver)
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(below, timeout=patience)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive)
    return not alive


def processes_below(driver: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The processes that a driver has started, and theirs."""
    try:
        children: list[psutil.Process] = psutil.Process(driver.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children
