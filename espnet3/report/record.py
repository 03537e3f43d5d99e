"""What a report tells of a run, as plain data: read once from its directory, then only drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from espnet3.parallel.engine.order import AS_GIVEN, Order

Array = npt.NDArray[np.float64]

DONE, LOST, OUT = "done", "lost", "out"


@dataclass(frozen=True)
class Start:
    """One start of a driver on the run; times are seconds since 1970.

    Attributes:
        epoch: its number, from 1.
        began: when it started.
        ended: its last sign of life.
        host: where the driver ran; "" if unknown.
        command: what was typed; "" if unknown.
        facts: versions and settings, by name.
    """

    epoch: int
    began: float
    ended: float
    host: str = ""
    command: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerLife:
    """One worker process of one start; times are seconds since 1970.

    Attributes:
        name: its name.
        epoch: the start that it belonged to.
        up: when it had come up.
        building: when it began to build its env.
        built: when its env was built; None if that never happened.
        gone: when it was gone; for one that is there, when the driver gave its last sign of life.
        lost: how it died; "" if it left in order.
        host: where it ran; "" if unknown.
    """

    name: str
    epoch: int
    up: float
    building: float
    built: float | None
    gone: float
    lost: str = ""
    host: str = ""


@dataclass(frozen=True)
class LeaseLife:
    """What became of one lease; times are seconds since 1970.

    Attributes:
        worker: who had it.
        epoch: the start that dealt it.
        first: its first place in the run's order.
        stop: one past its last place.
        dealt: when it was dealt.
        back: when its outcome was there; None while it is out.
        done: places that were committed: [first, first + done).
        begun: one past the last place that was begun, as far as is known.
        outcome: DONE, LOST if what was begun behind `done` was in vain, or OUT.
        failed: the first place of the unit that failed in it; None if none did.
    """

    worker: str
    epoch: int
    first: int
    stop: int
    dealt: float
    back: float | None
    done: int
    begun: int
    outcome: str
    failed: int | None = None


@dataclass(frozen=True)
class Units:
    """The units whose time is known, in any order; arrays of one length.

    Attributes:
        first: int64 array: first places in the run's order.
        seconds: float64 array: seconds in `forward`.
        audio: float64 array: seconds of audio; NaN where unknown.
    """

    first: npt.NDArray[np.int64]
    seconds: Array
    audio: Array

    @classmethod
    def none(cls) -> Units:
        """Nothing is known."""
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class RunRecord:
    """A run as the report tells it.

    Attributes:
        name: short, such as the test set's.
        directory: the run directory.
        state: one word: `done`, `failed`, `running`, ...
        why: what the state comes from, in words; "" where the word says all.
        positions: number of items that are to be done.
        done: items with committed results.
        split: how many of them were not done in the planned unit.
        memory: what is known of batches that did not fit into memory; "" if all did.
        failed: entries of those that have failed and not been retried, by position.
        attempts: records of all failed attempts, retried ones included, oldest first.
        starts: oldest first.
        workers: of all starts.
        leases: of all starts, in the order in which they were dealt.
        units: times of units.
        name_of: the name of the item at a place; `#position` where none is known.
        order: of its items; leases and units count places in it.
        config: what decides the results, with secrets masked.
        command: what began the run.
        unknown: what this directory does not tell, in sentences.
    """

    name: str
    directory: str
    state: str
    why: str
    positions: int
    done: int
    split: int = 0
    memory: str = ""
    failed: Sequence[Mapping[str, Any]] = ()
    attempts: Sequence[Mapping[str, Any]] = ()
    starts: Sequence[Start] = ()
    workers: Sequence[WorkerLife] = ()
    leases: Sequence[LeaseLife] = ()
    units: Units = field(default_factory=Units.none)
    name_of: Callable[[int], str] = "#{}".format
    order: Order = AS_GIVEN
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    unknown: Sequence[str] = ()
