"""Amounts of memory, as each scheduler writes them."""

from __future__ import annotations

import re

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([kmgtKMGT]?)[bB]?")


def memory(text: str, env: str, times: int = 1) -> str | None:
    """An amount as Dask reads it, such as ``4GiB``; None if it is none, or 0.

    Args:
        text: what stands in the scheduler's option.
        env: which one; Slurm means MiB by a number alone, the others bytes, and Grid Engine
            means 1000 by a small letter.
        times: how many of it.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        return None
    unit = match[2] or ("M" if env == "slurm" else "")
    suffix = f"{unit}B" if env == "sge" and unit.islower() else f"{unit.upper()}iB"
    amount = float(match[1]) * times
    if amount == 0:
        return None
    number = f"{amount:.6f}".rstrip("0").rstrip(".")
    return f"{number}{suffix if unit else 'B'}"
