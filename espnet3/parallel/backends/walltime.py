"""How long a job may run, as each scheduler writes it."""

from collections.abc import Mapping
from typing import Any

Units = Mapping[int, tuple[int, ...]]
"""Seconds that each number stands for, by how many numbers there are between colons."""

HMS: Units = {1: (1,), 2: (60, 1), 3: (3600, 60, 1)}
SLURM: Units = {1: (60,), 2: (60, 1), 3: (3600, 60, 1)}
LSF: Units = {1: (60,), 2: (3600, 60)}
OAR: Units = {1: (3600,), 2: (3600, 60), 3: (3600, 60, 1)}
MOAB: Units = {**HMS, 4: (86400, 3600, 60, 1)}

_SLURM_WITH_DAYS: Units = {1: (3600,), 2: (3600, 60), 3: (3600, 60, 1)}


def in_seconds(walltime: str, units: Units) -> int:
    """A scheduler's text in seconds.

    Raises:
        ValueError: if it is no such text.
    """
    days, dash, rest = walltime.rpartition("-")
    if dash and units is not SLURM:
        raise ValueError(walltime)
    numbers = [int(part) for part in rest.split(":")]
    weights = (_SLURM_WITH_DAYS if dash else units).get(len(numbers))
    if weights is None or min(numbers) < 0:
        raise ValueError(walltime)
    seconds = sum(n * weight for n, weight in zip(numbers, weights, strict=True))
    return (int(days) * 86400 if dash else 0) + seconds


def as_text(walltime: Any, units: Units) -> str:
    """What stands in an option, as the scheduler reads it.

    A number is seconds: YAML makes 3600 of an unquoted 1:00:00.

    Raises:
        ValueError: if it is neither a number of seconds nor the scheduler's way to write a time.
    """
    if isinstance(walltime, bool) or not isinstance(walltime, int | float | str):
        raise ValueError(walltime)
    if isinstance(walltime, str):
        in_seconds(walltime, units)
        return walltime
    if walltime <= 0:
        raise ValueError(walltime)
    minutes, seconds = divmod(round(walltime), 60)
    hours, minutes = divmod(minutes, 60)
    if units is LSF:
        return f"{hours}:{minutes + (seconds > 0):02d}"
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def drain_after(seconds: float) -> int:
    """When a worker whose job may run for so long is to begin to leave.

    It needs the rest for its unit in hand, its commit and its report.
    """
    return round(seconds - min(120.0, seconds / 5))
