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
        self._changed = threading.Condition(threading.Lock())
        self._at_work = threading.Lock()
        self._waiting: deque[tuple[Unit, Any, int]] = deque()
        self._writing: Unit | None = None
        self._n_bytes = 0
        self._thread: threading.Thread | None = None
        self._ending = self._is_awaited = self._holds_still = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._thread is None:
            return
        limit: float | None = forking.LIMIT  # whoever was interrupted waits for no slow disk
        try:
            if error is None:
                self._finish()
                limit = None
        finally:
            with self._changed:
                self._waiting.clear()
                self._ending = True
                self._changed.notify_all()
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
        with self._changed:
            self._wait_until(lambda: self._has_room(n_bytes))
            if self.failed is None:
                self._waiting.append((unit, result, n_bytes))
                self._n_bytes += n_bytes
                self._changed.notify_all()
                return
        raise UnitUnfinished

    def settle(self) -> None:
        """Wait until all is written that was put; then the caller may write.

        Raises:
            UnitUnfinished: one could not be written.
        """
        if self._thread is not None:
            self._finish()
            if self.failed is not None:
                raise UnitUnfinished

    def _finish(self) -> None:
        with self._changed:
            self._wait_until(lambda: not self._waiting and self._writing is None)

    def before_fork(self) -> None:
        """Let nothing be half written while a process is forked."""
        if threading.current_thread() is not self._thread:
            self._holds_still = self._at_work.acquire(timeout=forking.LIMIT)

    def after_fork(self) -> None:
        """In the parent: go on."""
        if self._holds_still:
            self._at_work.release()
        self._holds_still = False

    def after_fork_in_child(self) -> None:
        """In the child, which writes nothing: the files are its parent's."""
        self._changed = threading.Condition(threading.Lock())
        self._waiting.clear()
        self._writing = None

    def _has_room(self, n_bytes: int) -> bool:
        if not self._waiting or self.failed is not None:
            return True
        return len(self._waiting) < MOST_UNITS and self._n_bytes + n_bytes <= MOST_BYTES

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what is being written. That is in hand now: if it hangs or kills, it is why."""
        before, self._is_awaited = self._cells[0], True
        try:
            while not is_so():
                self._mark_writing()
                self._changed.wait()
        finally:
            self._cells[0], self._is_awaited = before, False

    def _mark_writing(self) -> None:
        if self._is_awaited and self._writing is not None:
            self._cells[0] = self._writing.first + 1

    def _start(self) -> bool:
        """Start the thread, if the system lets us have one more."""
        thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._work,),
            name="writes behind",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        forking.watch(self)
        return True

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            unit, result, n_bytes = entry
            error = self._write_one(unit, result)
            del entry, result  # its memory is free before the next one is taken
            with self._changed:
                self._writing = None
                self._n_bytes -= n_bytes
                if error is not None:
                    self.failed = unit, error
                    self._waiting.clear()
                self._changed.notify_all()
            if error is not None:
                return

    def _next(self) -> tuple[Unit, Any, int] | None:
        with self._changed:
            while not self._waiting:
                if self._ending:
                    return None
                self._changed.wait()
            entry = self._waiting.popleft()
            self._writing = entry[0]
            self._mark_writing()
            self._changed.notify_all()
            return entry

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
