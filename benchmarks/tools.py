"""Programs that a user would take instead, as far as they are installed."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

from benchmarks.measure import MeasurementFailed

_TIMEOUT = 1200.0


def installed(commands: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The commands whose program, the first word of their name, is there; and a note on others."""
    programs = {who: who.split()[0].rstrip(",") for who in commands}
    there = {who: commands[who] for who, program in programs.items() if shutil.which(program)}
    missing = dict.fromkeys(program for who, program in programs.items() if who not in there)
    return there, [f"{program} is not installed" for program in missing]


def run(command: str, cwd: Path, **variables: str) -> float:
    """Run a shell command to its end; returns seconds.

    Args:
        command: For ``sh``.
        cwd: Where.
        **variables: Added to its environment.

    Raises:
        MeasurementFailed: It failed.
    """
    begin = perf_counter()
    done = subprocess.run(
        command, shell=True, cwd=cwd, env={**os.environ, **variables},
        capture_output=True, text=True, timeout=_TIMEOUT,
    )  # fmt: skip
    if done.returncode:
        raise MeasurementFailed(f"{command} ended with {done.returncode}: {done.stderr[-500:]}")
    return perf_counter() - begin
