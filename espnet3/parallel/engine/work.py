"""What a start asks for: so many items, in such batches; and what order and units come of it."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from espnet3.parallel.engine.order import AS_GIVEN, MOST, Order, longest_first, window_for
from espnet3.parallel.engine.plan import Plan


@dataclass(frozen=True)
class Work:
    """What a start asks for.

    Attributes:
        n_positions: length of `indices`.
        batch_size: most items of one `forward` call, or None for single ones.
        limit: only the first so many are to be done now; None for all.
        durations: seconds of every position, or None.
        batch_seconds: most seconds of one `forward` call, all items as long as its longest; None
            for no such bound. It needs durations and a `batch_size`.
        any_order: whoever merges puts the records back in the order of the items, so a run that
            begins with this start has batches by length, if there are batches and durations.
        window: positions of a window of that order; None for what goes with its batches.
    """

    n_positions: int
    batch_size: int | None = None
    limit: int | None = None
    durations: Sequence[float] | None = None
    batch_seconds: float | None = None
    any_order: bool = False
    window: int | None = None

    def new_order(self) -> Order:
        """The order of a run that begins with this start."""
        batched = self.batch_size is not None and 0 < self.n_positions < MOST
        if not self.any_order or not batched or self.durations is None:
            return AS_GIVEN
        window = self.window or window_for(self._items_of_a_batch())
        return longest_first(self.durations, window, self.limit)

    def seconds(self, order: Order) -> Sequence[float] | None:
        """The durations by place."""
        if self.durations is None or not order:
            return self.durations
        return array("d", order.of(self.durations))

    def plan(self, order: Order) -> Plan:
        """The units in which this start does a run that has this order."""
        bounds = self._bounds(order)
        plan = Plan(self.n_positions, self.batch_size, self.limit, bounds)
        limit = self.limit
        if limit is None or not order:
            return plan
        # The first items are wanted, in whole units; both hold at the end of a window at last.
        while (whole := plan.align(0, order.closed(limit), self.n_positions)) != limit:
            limit = whole
        return Plan(self.n_positions, self.batch_size, limit, bounds)

    def by_count(self) -> Plan:
        """The units of a run without order and without bounds in seconds, to compare with."""
        return Plan(self.n_positions, self.batch_size, self.limit)

    def _items_of_a_batch(self) -> float:
        """About how many there are, if bounds in seconds are what ends most."""
        most = float(self.batch_size or 1)
        if self.batch_seconds is None or self.durations is None:
            return most
        total = sum(self.durations)
        return min(most, self.batch_seconds * self.n_positions / total) if total > 0 else most

    def _bounds(self, order: Order) -> "array[int] | None":
        if self.batch_size is None or self.n_positions == 0:
            return None
        seconds = self.seconds(order)
        if seconds is not None and self.batch_seconds is not None:
            ends = order.ends or [self.n_positions]
            return by_seconds(seconds, ends, self.batch_size, self.batch_seconds)
        return by_number(order.ends, self.batch_size) if order else None


def _bounds(ends: Sequence[int]) -> "array[int]":
    """Bounds that begin at 0; workers get them, so they are as small as they can be."""
    return array("I" if ends[-1] < MOST else "Q", [0])


def by_number(ends: Sequence[int], batch_size: int) -> "array[int]":
    """Bounds of units of `batch_size` places that do not cross an end of a window."""
    bounds, first = _bounds(ends), 0
    for end in ends:
        bounds.extend(range(first + batch_size, end, batch_size))
        bounds.append(end)
        first = end
    return bounds


def by_seconds(
    seconds: Sequence[float], ends: Sequence[int], batch_size: int, batch_seconds: float
) -> "array[int]":
    """Bounds of units of at most `batch_seconds`, padding included, and `batch_size` places.

    Args:
        seconds: of every place.
        ends: of the windows, which no unit crosses.
        batch_size: most places of a unit.
        batch_seconds: most seconds of a unit: places times the longest of them. A place that is
            longer is a unit alone.
    """
    bounds, first = _bounds(ends), 0
    for end in ends:
        begin, longest = first, 0.0
        for place in range(first, end):
            length = seconds[place]
            most = max(longest, length)
            n = place - begin + 1
            if n > batch_size or (n > 1 and n * most > batch_seconds):
                bounds.append(place)
                begin, most = place, length
            longest = most
        bounds.append(end)
        first = end
    return bounds
