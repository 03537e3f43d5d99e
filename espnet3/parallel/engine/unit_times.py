"""Seconds of each unit of a shard, kept in its `done` record: 4 bytes each, before base64.

They tell which items were slow, and how time goes with length. Which positions a unit had follows
from the shard's first position and the batch size of its day, which stand there too.
"""

import heapq
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from espnet3.parallel.engine.plan import Plan

MOST_UNITS = 4_000_000  # of a run; of more than that (20 MB on disk), none are kept
NAMED = 10  # of the slowest units of a shard, the names are kept, too


@dataclass(frozen=True)
class UnitTime:
    """What one unit took.

    Attributes:
        first: its first position.
        stop: one past its last position.
        seconds: in `forward`.
    """

    first: int
    stop: int
    seconds: float


def are_kept(plan: Plan) -> bool:
    """Whether a run is small enough for it."""
    return plan.n_positions <= MOST_UNITS * plan.unit_size


def to_record(
    seconds: "array[float]", first: int, stop: int, plan: Plan, name_of: Callable[[int], str]
) -> dict[str, Any]:
    """What a `done` record says of them.

    Args:
        seconds: of each unit, in order, as 4-byte floats.
        first: the shard's first position.
        stop: one past its last position.
        plan: the units.
        name_of: how the utterance at a position is called, where a unit begins.
    """
    data = array("f", seconds)
    if sys.byteorder == "big":
        data.byteswap()
    record = {"batch_size": plan.unit_size, "seconds": b64encode(data.tobytes()).decode()}
    slowest = heapq.nlargest(NAMED, range(len(seconds)), key=seconds.__getitem__)
    firsts = _firsts(first, stop, plan.unit_size, len(seconds))
    record["slowest"] = [
        [firsts[i], round(seconds[i], 6), name_of(firsts[i])] for i in slowest if firsts
    ]
    return record


def from_record(done: Mapping[str, Any]) -> list[UnitTime]:
    """The units of a shard, in order; none where its `done` record does not tell.

    Args:
        done: the record.
    """
    try:
        units, first, stop = done["units"], int(done["first"]), int(done["last"]) + 1
        seconds = array("f", b64decode(units["seconds"]))
        firsts = _firsts(first, stop, int(units["batch_size"]), len(seconds))
    except (KeyError, TypeError, ValueError):
        return []
    if sys.byteorder == "big":
        seconds.byteswap()
    stops = [*firsts[1:], stop]
    return [UnitTime(*each) for each in zip(firsts, stops, seconds, strict=bool(firsts))]


def _firsts(first: int, stop: int, size: int, n_units: int) -> list[int]:
    """Where the units of a shard begin; [] if there are not as many as it says.

    A lease of its own is one unit, wherever it lies.
    """
    if n_units == 1:
        return [first]
    firsts = [first, *range((first // size + 1) * size, stop, size)]
    return firsts if len(firsts) == n_units else []
