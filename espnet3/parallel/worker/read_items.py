"""What was read ahead and not taken yet, and what is being read: never more than fits."""

from dataclasses import dataclass
from typing import Any

from espnet3.parallel.worker.reading_list import Entry
from espnet3.parallel.worker.sizes import n_bytes_of

NEXT_UNITS = 2  # units that are read ahead whatever their number of items
NEXT_ITEMS = 16  # items that are read ahead where units are small
MOST_BYTES = 1 << 28  # of what was read ahead; the next unit is read whatever it takes
FAILED = object()
"""Stands for an item that could not be read."""


@dataclass(slots=True)
class Read:
    """An item that was read, for the unit that begins at that position."""

    item: Any
    unit: int
    n_bytes: int

    @classmethod
    def of(cls, item: Any, unit: int) -> "Read":
        """With its size, as far as that can be told."""
        return cls(item, unit, 0 if item is FAILED else n_bytes_of(item))


class ReadItems:
    """Items by their index in the dataset. No thread is safe here; `LoadingAhead` has a lock.

    Attributes:
        ready: those that were read.
        reading: the units of those that are being read.
        n_dropped: how many were read in vain, since that was set to 0.
    """

    def __init__(self) -> None:
        self.ready: dict[int, Read] = {}
        self.reading: dict[int, int] = {}
        self.n_dropped = 0
        self._n_bytes = 0

    def begin(self, entry: Entry) -> None:
        """It is being read from here on."""
        self.reading[entry.index] = entry.unit

    def put(self, index: int, read: Read) -> None:
        """It was read."""
        self.ready[index] = read
        self._n_bytes += read.n_bytes
        self.reading.pop(index, None)

    def take(self, index: int) -> Read | None:
        """Give an item away; None if it is not there."""
        read = self.ready.pop(index, None)
        if read is not None:
            self._n_bytes -= read.n_bytes
        return read

    def has(self, index: int) -> bool:
        """Whether it was read or is being read."""
        return index in self.ready or index in self.reading

    def has_room(self, unit: int, now: int) -> bool:
        """Whether an item fits.

        Args:
            unit: that it is for.
            now: the unit in hand.
        """
        if unit == now:
            return True
        self.drop_before(now)
        ahead = [u for u in self.reading.values() if u != now]
        ahead += [read.unit for read in self.ready.values() if read.unit != now]
        others = {u for u in ahead if u != unit}
        if not others:
            return True
        is_near = len(others) < NEXT_UNITS or len(ahead) < NEXT_ITEMS
        return is_near and self._n_bytes < MOST_BYTES

    def drop_before(self, now: int) -> None:
        """Let go of what `forward` did without.

        Args:
            now: the unit in hand.
        """
        for index, read in list(self.ready.items()):
            if read.unit < now:
                self.take(index)
                self.n_dropped += 1

    def keep(self, units: range) -> None:
        """Let go of what is for other units than those that begin in a range."""
        for index, read in list(self.ready.items()):
            if read.unit not in units:
                self.take(index)
