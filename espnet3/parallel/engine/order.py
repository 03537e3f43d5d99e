"""The order in which a run does its items, where that is not the order of `indices`.

The engine counts *places*: the first item that is done has place 0. Without an order of its own a
place is a position, an index into `indices`; with one, whoever tells people of an item, or merges,
translates. Shards, leases and units are stretches of places, whatever the order is.

An order permutes inside *windows* of neighbouring positions: those of a window have its places.
"""

import hashlib
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

LEAST_WINDOW = 4096  # positions; with batches of 16, wider ones pad hardly less
MOST_WINDOW = 32768  # a merge holds the lines of one
BATCHES = 128  # of a window: about 2 % are padding then, as padding falls with their number
MOST = 2**32  # positions that four bytes can tell from each other


class Order:
    """Which position has which place.

    Args:
        positions: of each place; None where each place is its own position.
        window: positions of a window.
        limit: a window ends there besides; None for no such end.

    Attributes:
        ends: where the windows end, ascending, the number of positions last; none without an order.
    """

    def __init__(
        self,
        positions: "array[int] | None" = None,
        window: int = LEAST_WINDOW,
        limit: int | None = None,
    ) -> None:
        self._positions = positions
        self.window, self.limit = window, limit
        n = 0 if positions is None else len(positions)
        self.ends: Sequence[int] = window_ends(n, window, limit)

    def __bool__(self) -> bool:
        """Whether places are not simply positions."""
        return self._positions is not None

    def position(self, place: int) -> int:
        """The position that has that place."""
        return place if self._positions is None else self._positions[place]

    def place(self, position: int) -> int:
        """The place of a position; a position that no item has is its own."""
        if self._positions is None or not 0 <= position < len(self._positions):
            return position
        window = bisect_right(self.ends, position)
        first = self.ends[window - 1] if window else 0
        return self._positions.index(position, first, self.ends[window])

    def positions(self, first: int, stop: int) -> Sequence[int]:
        """The positions of the places [first, stop)."""
        return range(first, stop) if self._positions is None else self._positions[first:stop]

    def of(self, values: Sequence[Any]) -> Sequence[Any]:
        """What is given by position, by place; nothing is copied."""
        return values if self._positions is None else _ByPlace(values, self._positions)

    def closed(self, place: int) -> int:
        """The first place from that one on before which stand the first positions, no others."""
        if self._positions is None or place <= 0:
            return place
        place = min(place, len(self._positions))
        highest = max(self._positions[:place])
        while highest >= place:
            highest = max(highest, self._positions[place])
            place += 1
        return place

    def to_bytes(self) -> bytes:
        """The positions by place, four bytes each, little-endian."""
        data = array("I", self._positions or ())
        if sys.byteorder == "big":
            data.byteswap()
        return data.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, window: int, limit: int | None) -> "Order":
        """What `to_bytes` gave."""
        positions = array("I")
        positions.frombytes(data)
        if sys.byteorder == "big":
            positions.byteswap()
        return cls(positions, window, limit)


def window_for(batch_size: float) -> int:
    """Positions of a window, for batches that have about so many items."""
    return int(min(max(LEAST_WINDOW, BATCHES * batch_size), MOST_WINDOW))


def window_ends(n_positions: int, size: int, limit: int | None) -> list[int]:
    """Where windows of `size` positions end; one ends at `limit`, too."""
    limit = n_positions if limit is None else min(limit, n_positions)
    ends = [*range(size, limit, size), limit, *range(limit + size, n_positions, size), n_positions]
    return list(dict.fromkeys(end for end in ends if end))


AS_GIVEN = Order()
"""Each place is its own position."""


def longest_first(
    durations: Sequence[float], window: int = LEAST_WINDOW, limit: int | None = None
) -> Order:
    """The order in which the items of each window come longest first, alike ones by position.

    Args:
        durations: seconds of every position.
        window: positions of a window.
        limit: at which a window ends besides.
    """
    import numpy as np  # only a run with durations pays for it

    seconds = np.asarray(durations, dtype=np.float64)
    positions = np.empty(len(seconds), dtype="<u4")
    for first, stop in pairwise([0, *window_ends(len(seconds), window, limit)]):
        positions[first:stop] = first + np.argsort(-seconds[first:stop], kind="stable")
    return Order.from_bytes(positions.tobytes(), window, limit)


def digest(data: bytes) -> str:
    """What tells whether a kept order is the one that was written."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class _ByPlace(Sequence[Any]):
    """A sequence by position, seen by place."""

    def __init__(self, values: Sequence[Any], positions: "array[int]") -> None:
        self._values = values
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Any]:
        return map(self._values.__getitem__, self._positions)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self._values[position] for position in self._positions[place]]
        return self._values[self._positions[place]]
