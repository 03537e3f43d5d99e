"""Ending in good order: the first SIGINT, SIGTERM or SIGHUP drains, a SIGINT then ends at once.

A second SIGTERM or SIGHUP does nothing: `timeout`, shells and schedulers may send them twice.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

_REASONS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "asked to terminate (SIGTERM)",
    signal.SIGHUP: "its terminal was closed (SIGHUP)",
}
_WHEN = "after the items in hand"


class Interruption:
    """Whether this process was asked to end while a run was going on."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.when = _WHEN
        """At what point it ends when `drain` was called, for people."""
        self.drain: Callable[[], None] | None = None
        """What lets the run come to an end soon. It is called inside a signal handler, so it may
        do no more than set a flag. While it is None there is nothing to drain, and a signal ends
        the process as it does elsewhere."""
        self.before: dict[int, Any] = {}
        """The handlers in whose place this is, by signal."""

    @property
    def reason(self) -> str:
        """In words."""
        return "" if self.signal is None else _REASONS[signal.Signals(self.signal)]

    @contextmanager
    def answered(self, drain: Callable[[], None], when: str = _WHEN) -> Iterator[None]:
        """Call `drain` at the first signal in a `with` block, or at once if it came before."""
        before = self.drain, self.when
        self.drain, self.when = drain, when
        try:
            if self.signal is not None:
                drain()
            yield
        finally:
            self.drain, self.when = before

    def raise_if_any(self) -> None:
        """End as the signal asks for, now that everything is committed.

        Raises:
            KeyboardInterrupt: after SIGINT.
            SystemExit: with status 143 after SIGTERM, 129 after SIGHUP.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)

    @contextmanager
    def ended_at_once(self, acts: Sequence[Callable[[], None]]) -> Iterator[None]:
        """At a second Ctrl-C in a `with` block: call what `acts` holds then, and close nothing."""
        try:
            yield
        except KeyboardInterrupt:
            for act in acts:
                act()
            self.end_at_once()
            raise

    def end_at_once(self) -> None:
        """After a second Ctrl-C: end without closing anything, which could take many seconds.

        Not in an interactive session, whose user wants to keep what is in memory.
        """
        if hasattr(sys, "ps1") or sys.flags.interactive or "IPython" in sys.modules:
            return
        logging.shutdown()
        os._exit(128 + signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            if self.drain is not None:
                # A log record could wait for a lock that this thread holds.
                said = f"\nStopping {self.when}; Ctrl-C again ends at once.\n"
                with suppress(OSError):  # the terminal may be gone
                    os.write(2, said.encode())
                self.drain()
                return
            self.raise_if_any()
        if number == signal.SIGINT:
            raise KeyboardInterrupt


@contextmanager
def caught() -> Iterator[Interruption]:
    """Answer SIGINT, SIGTERM and SIGHUP for the length of a `with` block.

    Outside the main thread, where Python allows no handlers, nothing is caught.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    number: int
    for number in _REASONS:
        before = signal.getsignal(number)
        if before != signal.SIG_IGN:  # as under nohup: the user's wish
            interruption.before[number] = before
            signal.signal(number, interruption._handle)
    try:
        yield interruption
    finally:
        for number, handler in interruption.before.items():
            signal.signal(number, _or_default(handler))


def _or_default(handler: Any) -> Any:
    """A handler as `signal.signal` takes it: one of C code is None, and cannot be put back."""
    return signal.SIG_DFL if handler is None else handler


class _Fork(threading.local):
    mask: set[int | signal.Signals] = set()
    """What the thread that forks had blocked."""


_fork = _Fork()


def _before_fork() -> None:
    _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _REASONS)


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)


def _after_fork_in_child() -> None:
    """In a child that user code forked, as of a pool, signals are not for the run.

    They are blocked until that is so: Python forgets those that came to a handler of its own before
    the child was set up, and one that waits in C code answers them when it is done, if ever.
    """
    for number in _REASONS:
        while isinstance(ours := getattr(signal.getsignal(number), "__self__", None), Interruption):
            signal.signal(number, _or_default(ours.before[number]))
    _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)


@contextmanager
def deferred(when: str) -> Iterator[Interruption]:
    """Let a `with` block come to its end first, whatever asks this process to end meanwhile.

    Then the process ends, or the run does, if this is inside one. Only a second Ctrl-C breaks the
    block off.

    Args:
        when: at what point it ends, for people.

    Raises:
        KeyboardInterrupt: after SIGINT.
        SystemExit: with status 143 after SIGTERM.
    """
    outer = _in_force()
    if outer is not None:
        with outer.answered(_nothing, when):
            yield outer
        return
    with caught() as own:
        own.signal = before = _ending_by()
        with own.answered(_nothing, when):
            yield own
    if before is None:
        own.raise_if_any()


def _ending_by() -> int | None:
    """The signal for which this thread is ending already, with what it has begun to close."""
    error = sys.exc_info()[1]
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code - 128 if error.code - 128 in _REASONS else None
    return None


def _nothing() -> None:
    """What is to be done to end soon where everything ends soon anyway."""


def _in_force() -> Interruption | None:
    """What answers signals in this thread now, if it is one of ours."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            owner = getattr(signal.getsignal(number), "__self__", None)
            if isinstance(owner, Interruption):
                return owner
    return None
