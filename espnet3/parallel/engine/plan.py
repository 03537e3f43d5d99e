"""What a run has to do: how many places, cut into which units."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Plan:
    """Places 0..n_positions-1 and the units they are done in; see `Order` for what a place is.

    A unit depends on the plan alone, never on who does it or where a lease was cut. Units lie on a
    grid of `batch_size` places, or end at `bounds`.

    Attributes:
        n_positions: length of `indices`.
        batch_size: most places of one `forward` call, or None for single items.
        limit: only places below it are to be done now (`--limit`), rounded up to whole units;
            None for all.
        bounds: where units begin and end, ascending from 0 to n_positions; None for the grid.
    """

    n_positions: int
    batch_size: int | None = None
    limit: int | None = None
    bounds: "array[int] | None" = field(default=None, repr=False, hash=False)

    @property
    def goal(self) -> int:
        """Places [0, goal) are to be done by this call."""
        if self.limit is None:
            return self.n_positions
        return self.align(0, self.limit, self.n_positions)

    @property
    def unit_size(self) -> int:
        """Most places of a unit."""
        return self.batch_size or 1

    @property
    def n_units(self) -> int:
        """How many units there are."""
        return self.count(0, self.n_positions)

    def count(self, first: int, stop: int) -> int:
        """How many units it takes to do [first, stop)."""
        if stop <= first:
            return 0
        if self.bounds is None:
            return -(-stop // self.unit_size) - first // self.unit_size
        return bisect_left(self.bounds, stop) - bisect_right(self.bounds, first) + 1

    def units(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """The units of [first, stop), cut where that is."""
        while first < stop:
            end = self.unit_stop(first, stop)
            yield first, end
            first = end

    def unit_stop(self, first: int, stop: int) -> int:
        """Where the unit that begins at `first` ends, inside [first, stop)."""
        if self.bounds is not None:
            return min(stop, self.bounds[bisect_right(self.bounds, first)])
        return min(stop, (first // self.unit_size + 1) * self.unit_size)

    def on_grid(self, first: int, stop: int) -> bool:
        """Whether [first, stop) is made of whole units."""
        return self._begins_unit(first) and (stop == self.n_positions or self._begins_unit(stop))

    def align(self, first: int, wanted: int, stop: int) -> int:
        """The end nearest to `wanted` for a lease on [first, stop): whole units, at least one."""
        wanted = max(wanted, first + 1)
        if wanted >= stop:
            return stop
        if self.bounds is not None:
            return min(stop, self.bounds[bisect_left(self.bounds, wanted)])
        return min(stop, -(-wanted // self.unit_size) * self.unit_size)

    def _begins_unit(self, place: int) -> bool:
        if self.bounds is None:
            return place % self.unit_size == 0
        at = bisect_left(self.bounds, place)
        return at < len(self.bounds) and self.bounds[at] == place
