"""Which items come next in a lease: a list for those who read ahead."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.plan import Plan


@dataclass(frozen=True, slots=True)
class Entry:
    """An item to be read.

    Attributes:
        index: of the item in its dataset.
        unit: the first position of the unit that it is for.
    """

    index: int
    unit: int


class ReadingList:
    """The items of a lease, one by one, from `begin_behind` on.

    Items that are no index of the dataset (a path, a number beyond its end) are left out. Nothing
    is kept of a lease of millions but where one is in it.

    Args:
        plan: the units.
        lease: the positions.
        items: the items at those positions.
        n_items: in the dataset.
    """

    def __init__(self, plan: Plan, lease: Lease, items: Sequence[Any], n_items: int) -> None:
        self._plan = plan
        self._lease = lease
        self._items = items
        self._n_items = n_items
        self._position = self._unit = self._unit_stop = lease.first

    def peek(self, now: int) -> Entry | None:
        """The next one; None if there is none.

        Args:
            now: the first position of the unit in hand; those before it are not wanted any more.
        """
        self._position = max(self._position, now)
        while self._position < self._lease.stop:
            while self._position >= self._unit_stop:
                self._unit = self._unit_stop
                self._unit_stop = self._plan.unit_stop(self._unit, self._lease.stop)
            index = self._items[self._position - self._lease.first]
            if self.is_index(index):
                return Entry(index, self._unit)
            self._position += 1
        return None

    def advance(self) -> None:
        """Go on behind the one that `peek` gave."""
        self._position += 1

    def is_index(self, item: Any) -> bool:
        """Whether an item is an index that the dataset has, and nothing that only looks like it."""
        return type(item) is int and 0 <= item < self._n_items

    def begin_behind(self, index: int, unit: int) -> bool:
        """Begin with what follows an index in its unit; False if it is none of that unit's.

        Args:
            index: of the item that `forward` has asked for.
            unit: the first position of the unit in hand.
        """
        if not self._lease.first <= unit < self._lease.stop:
            return False
        stop = self._plan.unit_stop(unit, self._lease.stop)
        for position in range(unit, stop):
            item = self._items[position - self._lease.first]
            if type(item) is int and item == index:
                self._unit, self._unit_stop, self._position = unit, stop, position + 1
                return True
        return False
