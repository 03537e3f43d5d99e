"""Sets of positions, kept as few disjoint ranges."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class PositionSet:
    """A set of non-negative integers as sorted, disjoint, half-open ranges.

    Memory is in the number of ranges, not of positions: 100 million finished positions in one
    piece cost one pair of integers. Adjacent ranges are joined.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._count = 0
        for first, stop in ranges:
            self.add(first, stop)

    def __len__(self) -> int:
        """Number of positions in the set."""
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges, in order, as (first, stop)."""
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __contains__(self, position: int) -> bool:
        i = bisect_right(self._starts, position) - 1
        return i >= 0 and position < self._stops[i]

    def __repr__(self) -> str:
        return f"PositionSet({list(self)})"

    def overlaps(self, first: int, stop: int) -> bool:
        """Whether any position in [first, stop) is in the set."""
        i = bisect_right(self._stops, first)
        return first < stop and i < len(self._starts) and self._starts[i] < stop

    def first_range(self) -> tuple[int, int]:
        """The lowest range.

        Raises:
            IndexError: if the set is empty.
        """
        return self._starts[0], self._stops[0]

    def range_at(self, position: int) -> tuple[int, int]:
        """The range that holds `position`.

        Raises:
            KeyError: if the position is not in the set.
        """
        i = bisect_right(self._starts, position) - 1
        if i < 0 or position >= self._stops[i]:
            raise KeyError(position)
        return self._starts[i], self._stops[i]

    def add(self, first: int, stop: int) -> None:
        """Add [first, stop); positions already there stay."""
        if first >= stop:
            return
        lo = bisect_left(self._stops, first)
        hi = bisect_right(self._starts, stop)
        if lo < hi:
            first = min(first, self._starts[lo])
            stop = max(stop, self._stops[hi - 1])
        self._replace(lo, hi, [(first, stop)])

    def remove(self, first: int, stop: int) -> None:
        """Take [first, stop) out; positions that are not there do not matter."""
        if first >= stop:
            return
        lo = bisect_right(self._stops, first)
        hi = bisect_left(self._starts, stop)
        if lo >= hi:
            return
        pieces = []
        if self._starts[lo] < first:
            pieces.append((self._starts[lo], first))
        if self._stops[hi - 1] > stop:
            pieces.append((stop, self._stops[hi - 1]))
        self._replace(lo, hi, pieces)

    def gaps(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """The ranges of [first, stop) that are not in the set, in order."""
        at = first
        begin, end_of = bisect_right(self._stops, first), bisect_left(self._starts, stop)
        for start, end in zip(self._starts[begin:end_of], self._stops[begin:end_of], strict=True):
            if at < start:
                yield at, start
            at = max(at, end)
        if at < stop:
            yield at, stop

    def _replace(self, lo: int, hi: int, pieces: list[tuple[int, int]]) -> None:
        self._count -= sum(self._stops[lo:hi]) - sum(self._starts[lo:hi])
        self._count += sum(stop - first for first, stop in pieces)
        self._starts[lo:hi] = [first for first, _ in pieces]
        self._stops[lo:hi] = [stop for _, stop in pieces]
