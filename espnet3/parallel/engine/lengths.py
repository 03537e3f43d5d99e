"""How many seconds of audio lie in which positions, where the data knows that."""

from array import array
from collections.abc import Iterable, Sequence


class Lengths:
    """Sums of the durations of neighbouring positions.

    Args:
        durations: seconds of every position.

    Attributes:
        cumulated: float64 array of shape (positions + 1,): the seconds before each position.
    """

    def __init__(self, durations: Sequence[float]) -> None:
        import numpy as np  # only a run with durations pays for it

        seconds = np.asarray(durations, dtype=np.float64)
        self.cumulated = np.concatenate([[0.0], np.cumsum(seconds)])

    def of(self, first: int, stop: int) -> float:
        """The seconds of positions [first, stop)."""
        return float(self.cumulated[stop] - self.cumulated[first])

    def each(self, first: int, stop: int) -> "array[float]":
        """The seconds of each of these positions, as 4-byte floats."""
        cumulated = self.cumulated[first : stop + 1]
        return array("f", cumulated[1:] - cumulated[:-1])

    def total(self, ranges: Iterable[tuple[int, int]]) -> float:
        """The seconds of all positions of some ranges."""
        return sum(self.of(first, stop) for first, stop in ranges)
