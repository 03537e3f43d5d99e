"""Seconds of each unit of a shard, kept in its `done` record: 4 bytes each, before base64.

They tell which items were slow, and how time goes with length. Which places a unit had follows
from the shard's first place and the batch size of its day, or from the units' sizes where these
differ; it stands there, too.
"""

import heapq
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from espnet3.parallel.engine.plan import Plan

MOST_UNITS = 4_000_000  # of a run; of more than that (20 MB on disk), none are kept
NAMED = 10  # of so many of the slowest units of a shard, the names are kept, too
MANY = 10_000  # units of a shard, of which none takes long: none is named then


@dataclass(frozen=True)
class UnitTime:
    """What one unit took.

    Attributes:
        first: its first place in the run's order.
        stop: one past its last place.
        seconds: in `forward`.
    """

    first: int
    stop: int
    seconds: float


def are_kept(plan: Plan) -> bool:
    """Whether a run is small enough for it."""
    return plan.n_units <= MOST_UNITS


def to_record(
    seconds: "array[float]", first: int, stop: int, plan: Plan, name_of: Callable[[int], str]
) -> dict[str, Any]:
    """What a `done` record says of them.

    Args:
        seconds: of each unit, in order, as 4-byte floats.
        first: the shard's first place.
        stop: one past its last place.
        plan: the units.
        name_of: how the utterance at a place is called, where a unit begins.
    """
    data = array("f", seconds)
    if sys.byteorder == "big":
        data.byteswap()
    kept = b64encode(data.tobytes()).decode()
    record: dict[str, Any] = {"batch_size": plan.unit_size, "seconds": kept}
    n = len(seconds)
    if n > 1 and plan.bounds is not None:
        record["sizes"] = [end - begin for begin, end in plan.units(first, stop)]
    if n <= MANY and (firsts := _firsts(first, stop, record, n)):
        slowest = heapq.nlargest(NAMED, range(n), key=seconds.__getitem__)
        record["slowest"] = [[firsts[i], round(seconds[i], 6), name_of(firsts[i])] for i in slowest]
    return record


def from_record(done: Mapping[str, Any]) -> list[UnitTime]:
    """The units of a shard, in order; none where its `done` record does not tell.

    Args:
        done: the record.
    """
    try:
        units, first, stop = done["units"], int(done["first"]), int(done["last"]) + 1
        seconds = array("f", b64decode(units["seconds"]))
        firsts = _firsts(first, stop, units, len(seconds))
    except (KeyError, TypeError, ValueError):
        return []
    if sys.byteorder == "big":
        seconds.byteswap()
    stops = [*firsts[1:], stop]
    return [UnitTime(*each) for each in zip(firsts, stops, seconds, strict=bool(firsts))]


def _firsts(first: int, stop: int, units: Mapping[str, Any], n_units: int) -> list[int]:
    """Where the units of a shard begin; [] if there are not as many as it says.

    A lease of its own is one unit, wherever it lies.
    """
    if n_units == 1:
        return [first]
    if "sizes" in units:
        firsts = [*accumulate(units["sizes"], initial=first)]
        return firsts[:-1] if firsts[-1] == stop and len(firsts) == n_units + 1 else []
    size = int(units["batch_size"])
    firsts = [first, *range((first // size + 1) * size, stop, size)]
    return firsts if len(firsts) == n_units else []
