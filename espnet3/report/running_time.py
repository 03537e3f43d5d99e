"""The time in which a run was at work: its starts behind each other, without the pauses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from espnet3.report.record import Start


class RunningTime:
    """Turns seconds since 1970 into seconds of running time.

    Args:
        starts: oldest first. One that took the run over while the former was still alive cuts it.

    Attributes:
        total: seconds of all starts.
        joints: running time at which each start but the first begins.
        pauses: seconds that lay before each of these.
    """

    def __init__(self, starts: Sequence[Start]) -> None:
        nexts = [start.began for start in starts[1:]]
        last = [start.ended for start in starts[-1:]]
        ends = [min(s.ended, n) for s, n in zip(starts, nexts + last, strict=True)]
        began = np.array([s.began for s in starts])
        lengths = np.maximum(0.0, np.array(ends) - began)
        self._began = began
        self._epochs = np.array([s.epoch for s in starts])
        self._lengths = lengths
        self._before = np.concatenate([[0.0], np.cumsum(lengths)])
        self.total = float(self._before[-1])
        self.joints = [float(at) for at in self._before[1:-1]]
        self.pauses = [
            max(0.0, float(later - end)) for later, end in zip(nexts, ends, strict=False)
        ]

    def of(
        self, epochs: Sequence[int] | npt.NDArray[np.int64], times: Sequence[float]
    ) -> npt.NDArray[np.float64]:
        """Running time of moments, each of which belongs to a start and is moved into it.

        Args:
            epochs: the start of each moment; one that is not known counts as the last before it.
            times: seconds since 1970; infinity is the end of the start.
        """
        if not len(self._began):
            return np.zeros(len(times))
        start = np.clip(np.searchsorted(self._epochs, epochs, side="right") - 1, 0, None)
        within = np.clip(np.asarray(times) - self._began[start], 0.0, self._lengths[start])
        return np.asarray(self._before[start] + within)
