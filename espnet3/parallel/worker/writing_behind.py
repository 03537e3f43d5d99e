"""Writing the results of units in the background, while `forward` is at later ones.

Results are written one after the other, in the order of their units. So a unit that cannot be
written is known by what was written before it: that counts, and whatever came behind it is done
again. Nothing is written behind in a lease that is to be done alone, or at once with something that
is not set aside: whoever dies or fails there is to blame.
"""

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple, Self, TypeAlias

from espnet3.parallel.engine.marker import WRITING
from espnet3.parallel.worker import forking
from espnet3.parallel.worker.sizes import n_bytes_of
from espnet3.parallel.worker.unfinished import UnitUnfinished

MOST_UNITS = 4  # that wait; so many are done again if the one before them cannot be written
MOST_BYTES = 64 << 20  # in what waits, if it is more than one unit


class Unit(NamedTuple):
    """A unit whose result is to be written, and the figures of its lease before it.

    Attributes:
        first: its first position.
        stop: one past its last.
        idx: what `forward` was given.
        seconds: that `forward` took for all units before.
        longest: that it took for one of them.
        n_times: how many have their times noted.
    """

    first: int
    stop: int
    idx: Any
    seconds: float
    longest: float
    n_times: int


Failed: TypeAlias = tuple[Unit, BaseException]


class WritingBehind:
    """Writes for one lease, in a `with` block; behind it all is written, or a unit has failed.

    What the two threads tell each other goes through queues that an interrupt leaves whole,
    whenever it comes; a lock may be left with nobody who holds it.

    Args:
        set_aside: makes of a result what may be written later; None if it is to be written at once.
        write: writes that. Nobody else may be at its files meanwhile.
        cells: of the in-flight marker.

    Attributes:
        set_aside: that function.
        failed: the unit that could not be written, and why. None was written after it.
    """

    def __init__(
        self, set_aside: Callable[[Any], Any], write: Callable[[Any], None], cells: memoryview
    ) -> None:
        self.failed: Failed | None = None
        self.set_aside = set_aside
        self._write = write
        self._cells = cells
        self._pid = os.getpid()
        self._to_write: SimpleQueue[tuple[Unit, Any] | None] = SimpleQueue()
        self._tried: SimpleQueue[None] = SimpleQueue()
        """One for each unit that was written, or could not be."""
        self._pending: deque[tuple[Unit, int]] = deque()
        """Those that were put and not heard of, with their bytes. The first one is in hand."""
        self._n_bytes = 0
        self._thread: threading.Thread | None = None
        self._at_work = threading.Lock()
        self._ending = self._holds_still = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._thread is None:
            return
        limit: float | None = forking.LIMIT  # whoever was interrupted waits for no slow disk
        try:
            if error is None:
                self._wait_until(lambda: not self._pending)
                limit = None
        finally:
            self._ending = True
            self._to_write.put(None)
            with suppress(RuntimeError):  # an interrupt came before it was started
                self._thread.join(limit)

    def put(self, unit: Unit, result: Any) -> None:
        """Have a result that was set aside written when its turn comes; waits for room for it.

        Raises:
            UnitUnfinished: one before could not be written.
            Exception: there can be no thread, so it was written at once, and that failed.
        """
        if self._thread is None and not self._start():
            self._write(result)
            return
        n_bytes = n_bytes_of(result)
        self._wait_until(lambda: self._has_room(n_bytes))
        if self.failed is not None:
            raise UnitUnfinished
        self._pending.append((unit, n_bytes))
        self._n_bytes += n_bytes
        self._to_write.put((unit, result))

    def settle(self) -> None:
        """Wait until all is written that was put; then the caller may write.

        Raises:
            UnitUnfinished: one could not be written.
        """
        if self._thread is not None:
            self._wait_until(lambda: not self._pending)
            if self.failed is not None:
                raise UnitUnfinished

    def before_fork(self) -> None:
        """Let nothing be half written while a process is forked."""
        if threading.current_thread() is self._thread:
            return
        if self._at_work.acquire(timeout=forking.LIMIT):
            self._holds_still = True

    def after_fork(self) -> None:
        """In the parent: go on."""
        if self._holds_still:
            self._holds_still = False  # first: another thread that forks may be waiting
            self._at_work.release()

    def after_fork_in_child(self) -> None:
        """In the child, which writes nothing: the files are its parent's."""

    def _has_room(self, n_bytes: int) -> bool:
        if len(self._pending) < 2:
            return True
        return len(self._pending) <= MOST_UNITS and self._n_bytes + n_bytes <= MOST_BYTES

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what is being written. That is in hand now: if it hangs or kills, it is why."""
        if os.getpid() != self._pid:
            os._exit(1)  # a child that user code forked: it must not go on as a worker
        while not self._tried.empty():
            self._hear()
        before = self._cells[0]
        try:
            while self.failed is None and not is_so():
                self._cells[0] = self._pending[0][0].first + 1
                self._hear()
        finally:
            self._cells[0] = before

    def _hear(self) -> None:
        self._tried.get()
        self._n_bytes -= self._pending.popleft()[1]

    def _start(self) -> bool:
        """Start the thread, if the system lets us have one more."""
        thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._work,),
            name="writes behind",
            daemon=True,
        )
        forking.watch(self)
        self._thread = thread  # before it is started: an interrupt meanwhile has to end it
        try:
            thread.start()
        except RuntimeError:
            self._thread = None
        return self._thread is not None

    def _work(self) -> None:
        while (entry := self._to_write.get()) is not None and not self._ending:
            unit, result = entry
            error = self._write_one(unit, result)
            del entry, result  # its memory is free before the next one is taken
            if error is not None:
                self.failed = unit, error
            self._tried.put(None)
            if error is not None:
                return

    def _write_one(self, unit: Unit, result: Any) -> BaseException | None:
        try:
            with self._at_work:
                self._cells[WRITING] = unit.first + 1
                self._write(result)
        except BaseException as error:  # it is told where the lease ends
            if os.getpid() != self._pid:
                os._exit(1)  # a child that a value of the user's forked must not go on in here
            return error
        finally:
            self._cells[WRITING] = 0
        return None
