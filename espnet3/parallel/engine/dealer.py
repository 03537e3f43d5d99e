"""Dealing leases: who gets which positions next, and for how long.

Measured by simulation (makespan over the ideal): 1.00-1.05 for 200 to 100 k items in any order on
4 to 64 workers, 1.00-1.16 with one worker three times slower, where equal static pieces give
1.06-17. Taking work back from busy workers would add nothing to that, so it is not done.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from espnet3.parallel.engine.lengths import Lengths
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.positions import PositionSet

if TYPE_CHECKING:
    import numpy as np

SHORTEST_LIMIT = 1.0  # seconds: no lease is ended earlier than that
WORTHWHILE = 0.1  # seconds of work that a lease has at least, as a commit costs milliseconds
FIRST_CAP = 4096  # units of a lease while nobody knows what one takes
Range = tuple[int, int]  # [first, stop)
STANDS_OUT = 2.0  # times the mean: units at least so long are dealt alone and first


@dataclass(frozen=True)
class Lease:
    """A contiguous range of positions handed to one worker.

    Attributes:
        number: unique within the epoch.
        first: first position.
        stop: one past the last position.
        seconds: when this time is up, the worker commits and returns the rest.
        alone: the whole range is one unit, whatever the batch grid says.
        may_overlap: other units may be read or written while one is worked on, if not `alone`.
    """

    number: int
    first: int
    stop: int
    seconds: float
    alone: bool = False
    may_overlap: bool = True


class Dealer:
    """Hands out the positions that are left and takes back what was not done.

    Without durations a lease is `remaining / (2 * workers)` positions (all that remains, for one
    worker), bounded in time by `clamp(elapsed / 4, 1 s, lease_seconds)`. With known durations those
    of the `4 * workers` longest units that stand out come first, alone and longest first; then the
    longest remaining range, cut to `remaining seconds / (4 * workers)`.

    Args:
        plan: the units.
        remaining: ranges to deal.
        lease_seconds: upper bound of a lease's time.
        workers: how many workers there will be.
        lengths: of every position in [0, plan.n_positions), or None.
    """

    def __init__(
        self,
        plan: Plan,
        remaining: Iterable[tuple[int, int]],
        *,
        lease_seconds: float = 60.0,
        workers: int = 1,
        lengths: Lengths | None = None,
    ) -> None:
        self.may_overlap = True
        """Of all leases to come."""
        self._plan = plan
        self._free = PositionSet(remaining)
        self._workers = max(1, workers)
        self._lease_seconds = lease_seconds
        self._next_number = 0
        self._out: dict[int, Lease] = {}
        self._alone: deque[tuple[int, int]] = deque()
        self._lengths = lengths if self._workers > 1 else None  # one does all in order anyway
        self._heads: deque[tuple[int, int]] = deque()
        if self._lengths is not None:
            self._longest_first(self._lengths)

    @property
    def n_left(self) -> int:
        """Positions neither dealt nor out with a worker."""
        return len(self._free) + sum(stop - first for first, stop in (*self._heads, *self._alone))

    @property
    def n_units_left(self) -> int:
        """Units neither dealt nor out with a worker."""
        free = (*self._free, *self._heads)
        return sum(self._plan.count(*each) for each in free) + len(self._alone)

    @property
    def out(self) -> list[Lease]:
        """Leases that workers hold now."""
        return list(self._out.values())

    def deal(
        self, elapsed: float, seconds_per_position: float = 0.0, *, avoid: Collection[Range] = ()
    ) -> Lease | None:
        """The next lease, or None if nothing is left to hand out.

        Args:
            elapsed: seconds since dealing began.
            seconds_per_position: what a position took so far on average; 0 if unknown.
            avoid: units that are to be done alone, but by somebody else.
        """
        alone = False
        if (unit := next((u for u in self._alone if u not in avoid), None)) is not None:
            self._alone.remove(unit)
            (first, stop), alone = unit, True
        elif self._heads:
            first, stop = self._heads.popleft()
        elif len(self._free):
            first, stop = self._cut()
            stop = self._bound(first, stop, elapsed, seconds_per_position)
            self._free.remove(first, stop)
        else:
            return None
        limit = self._limit(elapsed)
        lease = Lease(self._next_number, first, stop, limit, alone, self.may_overlap)
        self._next_number += 1
        self._out[lease.number] = lease
        return lease

    def settle(self, number: int) -> Lease:
        """End a lease; whoever calls gives back what of it was not done.

        Raises:
            KeyError: if no such lease is out (it was settled already).
        """
        return self._out.pop(number)

    def take_out(self, first: int, stop: int) -> None:
        """Do not deal [first, stop); nothing of it may be out."""
        self._free.remove(first, stop)
        self._heads = deque(h for h in self._heads if h[1] <= first or stop <= h[0])

    def give_back(self, first: int, stop: int) -> None:
        """Deal [first, stop) again."""
        self._free.add(first, stop)

    def give_back_alone(self, first: int, stop: int) -> None:
        """Deal [first, stop) again, soon and as one unit of its own."""
        self._alone.append((first, stop))

    def give_back_next(self, first: int, middle: int, stop: int) -> None:
        """Deal [first, middle) and [middle, stop) next, as a lease each (at most)."""
        self._heads.extendleft([(middle, stop), (first, middle)])

    def _limit(self, elapsed: float) -> float:
        return min(self._lease_seconds, max(SHORTEST_LIMIT, elapsed / 4))

    def _bound(self, first: int, stop: int, elapsed: float, per_position: float) -> int:
        """Where a lease on [first, stop) ends: worth its commit, doable in its time."""
        end = self._free.range_at(first)[1]
        if not per_position:
            return self._plan.align(first, min(stop, first + FIRST_CAP * self._plan.unit_size), end)
        at_least = round(WORTHWHILE / per_position)
        # Twice what is expected: the rest comes back, but items that are not needed travel too.
        at_most = round(2 * self._limit(elapsed) / per_position)
        return self._plan.align(first, min(max(stop, first + at_least), first + at_most), end)

    def _cut(self) -> tuple[int, int]:
        if self._lengths is not None:
            return self._cut_by_seconds(self._lengths)
        first, stop = self._free.first_range()
        share = 2 * self._workers if self._workers > 1 else 1
        return first, min(stop, first + len(self._free) // share)

    def _cut_by_seconds(self, lengths: Lengths) -> tuple[int, int]:
        ranges = list(self._free)
        seconds = [lengths.of(*each) for each in ranges]
        first, stop = ranges[max(range(len(ranges)), key=seconds.__getitem__)]
        share = sum(seconds) / (4 * self._workers)
        cumulated = lengths.cumulated
        wanted = int(cumulated.searchsorted(cumulated[first] + share, "right")) - 1
        return first, min(stop, wanted)

    def _longest_first(self, of: Lengths) -> None:
        import numpy as np

        firsts, stops = self._unit_bounds()
        lengths = of.cumulated[stops] - of.cumulated[firsts]
        longest = np.argsort(-lengths, kind="stable")[: 4 * self._workers]
        for i in longest[lengths[longest] >= STANDS_OUT * lengths.mean()] if len(lengths) else ():
            first, stop = int(firsts[i]), int(stops[i])
            self._heads.append((first, stop))
            self._free.remove(first, stop)

    def _unit_bounds(self) -> "tuple[np.ndarray, np.ndarray]":
        import numpy as np

        firsts = [self._unit_firsts(first, stop) for first, stop in self._free]
        stops = [
            np.append(begin[1:], stop) for begin, (_, stop) in zip(firsts, self._free, strict=True)
        ]
        empty = [np.empty(0, dtype=np.int64)]
        return np.concatenate(firsts or empty), np.concatenate(stops or empty)

    def _unit_firsts(self, first: int, stop: int) -> "np.ndarray":
        import numpy as np

        size, bounds = self._plan.unit_size, self._plan.bounds
        if bounds is None:
            inside = np.arange((first // size + 1) * size, stop, size)
        else:
            inside = np.array(bounds[bisect_right(bounds, first) : bisect_left(bounds, stop)])
        return np.concatenate([[first], inside]).astype(np.int64)
