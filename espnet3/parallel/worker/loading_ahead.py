"""Reading the items of the next units in the background, while `forward` is at one of them.

`forward` asks for `dataset[i]` as ever (see `stand_in`) and finds what was read meanwhile. What was
not, or could not be read here, it reads itself, so values and exceptions are those of the dataset,
at the item that has them. Nothing is read ahead

* in a lease that is to be done alone: whoever dies there is to blame;
* between leases: a worker without a unit in hand does nothing that could end it;
* before `forward` has asked for an item of the unit in hand, and that took a while;
* beyond the lease, and beyond what fits (`ReadItems.has_room`).
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import Any

from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.worker import forking
from espnet3.parallel.worker.read_items import FAILED, Read, ReadItems
from espnet3.parallel.worker.reading_list import Entry, ReadingList
from espnet3.parallel.worker.reading_threads import Reader

logger = logging.getLogger(__name__)

WORTH = 2e-4  # seconds that reading an item takes at least; else handing it over costs as much
TRIED = 32  # items that are read ahead before it is looked at whether they were worth it
MOST_REFUSALS = 3  # items that only `forward` itself could read, after which nobody else tries
_NOTHING = nullcontext()


class LoadingAhead:
    """Reads a dataset for one worker, lease by lease.

    Args:
        dataset: the dataset itself.
        plan: the units.
        n_threads: that may read at once. With one, no two accesses to the dataset overlap, also not
            those that `forward` makes.
    """

    def __init__(self, dataset: Any, plan: Plan, n_threads: int) -> None:
        self.dataset = dataset
        self._plan = plan
        self._n_threads = n_threads
        self._n_direct = self._n_refusals = 0
        self._is_worth_it = False
        self._is_off = False
        self._renew()
        forking.watch(self)

    def _renew(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._turn = threading.RLock() if self._n_threads == 1 else None
        self._threads: list[threading.Thread] = []
        self._list: ReadingList | None = None
        self._lease: tuple[Lease, Sequence[Any], memoryview] | None = None
        self._items = ReadItems()
        self._claimed: set[int] = set()
        """What `forward` has read itself, before its turn came here."""
        self._n_wanted = self._n_read = self._n_taken = 0
        self._mean = 0.0
        self._inside: int | None = None
        """The thread of `forward` that has the turn, for a method of the dataset."""
        self._ending = self._paused = self._holds_turn = False

    @contextmanager
    def during(self, lease: Lease, items: Sequence[Any], cells: memoryview) -> Iterator[None]:
        """While a lease is worked on.

        Args:
            lease: the positions.
            items: the items at those positions.
            cells: of the in-flight marker.
        """
        self._begin(lease, items, cells)
        try:
            yield
        except BaseException:  # an interrupt: whoever waits for a slow disk now waits too long
            self._stop()
            raise
        self._end(cells)

    def take(self, index: int) -> Any:
        """What `dataset[index]` gives: what was read ahead, or else read now."""
        if self._is_off or self._inside == threading.get_ident():
            return self.dataset[index]  # whoever reads it may be waiting for the turn that we have
        if not self._threads and not self._items.ready and not self._is_worth_it:
            return self._try(index)
        with self._changed:
            while index in self._items.reading:
                self._changed.wait()
            read = self._items.take(index)
            if read is not None:
                self._changed.notify_all()
            elif self._threads and not self._ending:
                self._claimed.add(index)
        if self._is_worth_it and not self._threads:
            self._start(index)
        if read is not None and read.item is not FAILED:
            self._n_taken += 1
            return read.item
        return self._take_directly(index, refused=read is not None)

    def in_turn(self) -> AbstractContextManager[Any]:
        """A context in which nobody else reads the dataset, if only one may at a time."""
        return self._turn or _NOTHING

    @contextmanager
    def in_turn_soon(self) -> Iterator[None]:
        """As `in_turn`, for `forward`: nothing more is read ahead before it had its turn."""
        with self._changed:
            self._n_wanted += 1
        try:
            if self._turn is None:
                yield
                return
            with self._turn:
                before, self._inside = self._inside, threading.get_ident()
                try:
                    yield
                finally:
                    self._inside = before
        finally:
            with self._changed:
                self._n_wanted -= 1
                self._changed.notify_all()

    @contextmanager
    def turn_if_free(self) -> Iterator[bool]:
        """As `in_turn`, but without waiting: gives whether nobody else reads the dataset."""
        turn = self._turn
        is_free = turn is None or turn.acquire(blocking=False)
        try:
            yield is_free
        finally:
            if is_free and turn is not None:
                turn.release()

    def _take_directly(self, index: int, *, refused: bool) -> Any:
        with self.in_turn_soon():
            item = self.dataset[index]
        if refused:
            self._count_refusal()
        return item

    def _try(self, index: int) -> Any:
        """Read an item, and see whether reading takes so long that it is worth to do so ahead."""
        with self._turn or _NOTHING:
            began = perf_counter()
            item = self.dataset[index]
            seconds = perf_counter() - began
        self._n_direct += 1
        if seconds >= WORTH and self._n_direct > 1:  # the first one of all imports what it needs
            self._is_worth_it = True
            self._start(index)
        return item

    def _count_refusal(self) -> None:
        """An item that could not be read ahead was read by `forward`: it may need that thread."""
        self._n_refusals += 1
        if self._n_refusals == MOST_REFUSALS:
            logger.warning(
                "%s cannot be read by another thread than that of `forward`; its items are not "
                "loaded ahead any more", type(self.dataset).__name__,
            )  # fmt: skip
            self._stop()
            self._lease = None

    def _begin(self, lease: Lease, items: Sequence[Any], cells: memoryview) -> None:
        for thread in self._threads:  # of a lease that an interrupt ended
            thread.join()
        self._threads, self._list = [], None
        self._claimed.clear()
        self._n_read = self._n_taken = self._items.n_dropped = 0
        self._ending = False
        is_possible = self._n_refusals < MOST_REFUSALS and lease.may_overlap and not lease.alone
        self._lease = (lease, items, cells) if is_possible else None
        # What is left of a lease that this one goes on with is of use.
        self._items.keep(range(lease.first, lease.stop) if is_possible else range(0))

    def _start(self, index: int) -> None:
        """Begin to read ahead, if that index shows that `forward` reads what is in its hand."""
        if self._lease is None:
            return
        lease, items, cells = self._lease
        try:
            n_items = len(self.dataset)
        except Exception:  # it is no item's fault that nobody knows
            self._lease = None
            return
        reading_list = ReadingList(self._plan, lease, items, n_items)
        if not reading_list.begin_behind(index, cells[0] - 1):
            return
        with self._changed:
            if self._threads or self._ending:  # `forward` has threads of its own
                return
            self._list = reading_list
            reader = Reader(self.dataset, self.in_turn, self._next, self._put, cells)
            self._threads = reader.threads(self._n_threads)
            for thread in self._threads:
                thread.start()

    def _stop(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def _end(self, cells: memoryview) -> None:
        """Wait for what is being read. That is in hand now: if it hangs or kills, it is why."""
        self._stop()
        with self._changed:
            self._items.drop_before(cells[0] - 1)
            while self._items.reading:
                cells[0] = next(iter(self._items.reading.values())) + 1
                self._changed.wait()
        for thread in self._threads:
            thread.join()
        if self._items.n_dropped >= MOST_REFUSALS and not self._n_taken:
            self._n_refusals = MOST_REFUSALS  # `forward` does not want the items in its hand
        self._threads, self._list, self._lease = [], None, None

    def _next(self, cells: memoryview) -> Entry | None:
        """Wait for room; None when there is nothing more to read."""
        with self._changed:
            while not self._ending and self._list is not None:
                now = cells[0] - 1
                entry = self._list.peek(now)
                if entry is None:
                    return None
                if self._is_had(entry.index):
                    self._list.advance()
                elif self._may_read() and self._items.has_room(entry.unit, now):
                    self._list.advance()
                    self._items.begin(entry)
                    return entry
                else:
                    self._changed.wait()
        return None

    def _is_had(self, index: int) -> bool:
        if index in self._claimed:
            self._claimed.discard(index)
            return True
        return self._items.has(index)

    def _may_read(self) -> bool:
        """`forward` goes first, where two cannot."""
        return not self._paused and not (self._n_wanted and self._n_threads == 1)

    def _put(self, entry: Entry, item: Any, seconds: float) -> None:
        read = Read.of(item, entry.unit)
        with self._changed:
            self._items.put(entry.index, read)
            self._n_read += 1
            self._mean += (seconds - self._mean) / min(self._n_read, TRIED)
            if self._n_read >= TRIED and self._mean < WORTH / 2:
                self._is_worth_it, self._ending = False, True
            self._changed.notify_all()

    def before_fork(self) -> None:
        """Let nobody be in the middle of reading while a process is forked."""
        if self._is_off or threading.current_thread() in self._threads:
            return
        self._paused = True
        if self._turn is not None:
            self._holds_turn = self._turn.acquire(timeout=forking.LIMIT)
        else:
            with self._changed:
                self._changed.wait_for(lambda: not self._items.reading, forking.LIMIT)

    def after_fork(self) -> None:
        """In the parent: go on."""
        if self._holds_turn and self._turn is not None:
            self._turn.release()
        self._holds_turn = False
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """In the child, which has no thread but its own: it reads what it needs."""
        self._renew()
        self._is_off = True
