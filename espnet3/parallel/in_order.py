"""Records of shards, in the order of the items that they are of; see `Order` in the engine."""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from espnet3.errors import DataError
from espnet3.parallel.engine.files import RECORD
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.order import AS_GIVEN, Order
from espnet3.parallel.engine.order_file import read_order

T = TypeVar("T")


def in_order(shard_dirs: Sequence[Path], read: Callable[[Path], Iterable[T]]) -> Iterator[T]:
    """The records of all shards, one by one, in the order of the items.

    For a `merge` of one's own: with batches by length the records of a shard lie there as they were
    written, the longest item first. Those of one window of neighbouring items, at most 32,768, are
    held at a time, never all. Without batches by length this is no more than one shard after the
    other.

    Args:
        shard_dirs: as `merge` gets them.
        read: gives the records of one shard in the order in which they were written, one for each
            of its items.

    Raises:
        DataError: if a shard has more or fewer records than items.
        LedgerError: if the kept order of the run is gone or damaged.
    """
    order = order_of_shards(shard_dirs)
    if not order:
        for shard_dir in shard_dirs:
            yield from read(shard_dir)
        return
    held: list[tuple[int, T]] = []  # of one window, by position
    end = 0
    for place, record in _by_place(shard_dirs, read):
        if place >= end:
            yield from map(itemgetter(1), sorted(held, key=itemgetter(0)))
            held.clear()
            end = order.ends[bisect_right(order.ends, place)]
        held.append((order.position(place), record))
    yield from map(itemgetter(1), sorted(held, key=itemgetter(0)))


def order_of_shards(shard_dirs: Sequence[Path]) -> Order:
    """The order of the run that some shards are of.

    Raises:
        LedgerError: if it is gone or damaged.
    """
    if not shard_dirs:
        return AS_GIVEN
    run_dir = Path(shard_dirs[0]).parent
    manifest = Manifest.read(run_dir)
    return AS_GIVEN if manifest is None else read_order(run_dir, manifest)


def _by_place(
    shard_dirs: Sequence[Path], read: Callable[[Path], Iterable[T]]
) -> Iterator[tuple[int, T]]:
    for shard_dir in shard_dirs:
        done: dict[str, Any] = json.loads((Path(shard_dir) / RECORD).read_bytes())
        place, stop = int(done["first"]), int(done["last"]) + 1
        n_items = stop - place
        for record in read(shard_dir):
            if place == stop:
                raise DataError(f"{shard_dir} holds more than {n_items} records, one for each item")
            yield place, record
            place += 1
        if place != stop:
            raise DataError(
                f"{shard_dir} holds {n_items - (stop - place)} records for {n_items} items; to put "
                "them in order there must be one for each"
            )
