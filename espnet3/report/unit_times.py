"""How long units take for their length, and which of them stand out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from espnet3.report.record import RunRecord, Units

MOST_POINTS = 3000  # more of them hide each other; then they are counted in cells
CELLS = 60  # along the longer side of the picture
NAMED = 10
GROUP, MOST_GROUPS = 10, 20  # units that give one median, and how many of these there are
FEWEST = 20  # of fewer units nobody can tell what is usual
FAR = 3.0  # a unit stands out if it took that many times what its like take
TOO_SHORT = 0.01  # seconds; nobody looks for what took less

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outlier:
    """A unit that took much longer than others of its length.

    Attributes:
        position: its first position.
        name: of the item there.
        seconds: in `forward`.
        audio: its seconds of audio; NaN where unknown.
        times: how many times what is usual for its length.
    """

    position: int
    name: str
    seconds: float
    audio: float
    times: float


@dataclass(frozen=True)
class Cells:
    """How many units lie where; arrays of one length, of the cells that have any.

    Attributes:
        left: float64 array: audio seconds, or seconds in `forward` where no audio is known.
        right: the upper end of it.
        bottom: seconds in `forward`; zeros where no audio is known.
        top: the upper end of it; the count where no audio is known.
        count: units.
    """

    left: Array
    right: Array
    bottom: Array
    top: Array
    count: Array


@dataclass(frozen=True)
class UnitTimes:
    """What is to be drawn.

    Attributes:
        units: those with a time above 0 and, if any audio is known, a length above 0.
        with_audio: whether lengths are known.
        cells: counts, where the units are too many to be drawn one by one; else None.
        usual: float64 array of shape (n, 2): audio seconds and the usual time at it.
        outliers: the longest for their length first, at most `NAMED`.
        n_outliers: how many stand out, the named included.
    """

    units: Units
    with_audio: bool
    cells: Cells | None
    usual: Array
    outliers: Sequence[Outlier]
    n_outliers: int


def unit_times(run: RunRecord) -> UnitTimes | None:
    """Prepare the picture of a run's units; None if nothing is known of them."""
    units = run.units
    with_audio = bool(np.any(units.audio > 0))
    keep = units.seconds > 0
    if with_audio:
        keep &= units.audio > 0
    units = Units(units.first[keep], units.seconds[keep], units.audio[keep])
    if not len(units):
        return None
    usual = _usual(units, with_audio)
    length = units.audio if with_audio else np.ones(len(units))
    # Longer or shorter than all of them: in proportion.
    pace = np.interp(np.log(length), np.log(usual[:, 0]), usual[:, 1] / usual[:, 0])
    times = units.seconds / (pace * length)
    is_far = (times >= FAR) & (units.seconds >= TOO_SHORT) & (len(units) >= FEWEST)
    far = np.flatnonzero(is_far)
    far = far[np.argsort(-times[far], kind="stable")]
    outliers = [
        Outlier(
            run.order.position(int(units.first[i])),
            run.name_of(int(units.first[i])),
            float(units.seconds[i]),
            float(units.audio[i]),
            float(times[i]),
        )
        for i in far[:NAMED]
    ]
    many = len(units) > MOST_POINTS
    cells = (_cells(units) if many else None) if with_audio else _histogram(units)
    return UnitTimes(units, with_audio, cells, usual, outliers, len(far))


def _usual(units: Units, with_audio: bool) -> Array:
    """The median times of units of about the same length, by length."""
    if not with_audio:
        return np.array([[1.0, np.median(units.seconds)]])
    n = int(np.clip(len(units) // GROUP, 1, MOST_GROUPS))
    groups = np.array_split(np.argsort(units.audio, kind="stable"), n)
    lengths = np.array([np.median(units.audio[group]) for group in groups])
    paces = np.array([np.median(units.seconds[group] / units.audio[group]) for group in groups])
    return np.stack([lengths, lengths * paces], axis=1)


def _cells(units: Units) -> Cells:
    x, y = np.log10(units.audio), np.log10(units.seconds)
    count, at_x, at_y = np.histogram2d(x, y, bins=(CELLS, CELLS * 2 // 3))
    i, j = np.nonzero(count)
    return Cells(10 ** at_x[i], 10 ** at_x[i + 1], 10 ** at_y[j], 10 ** at_y[j + 1], count[i, j])


def _histogram(units: Units) -> Cells:
    """Counts over time alone."""
    n = int(np.clip(np.sqrt(len(units)) * 2, 8, CELLS))
    count, at = np.histogram(np.log10(units.seconds), bins=n)
    (i,) = np.nonzero(count)
    high = count[i].astype(np.float64)
    return Cells(10 ** at[i], 10 ** at[i + 1], np.zeros(len(i)), high, high)
