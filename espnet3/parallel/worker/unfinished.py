"""Leaving a unit that takes long when its worker is told to drain, for the next run to go on with.

For a `forward` that keeps what it has got, and goes on from there when it is called again.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_draining = threading.Event()
"""Of the lease that is in hand in this process; one that is never set if there is none."""


class UnitUnfinished(BaseException):
    """Raised in `forward` to give its unit back: it has not failed, and is done by the next run.

    No `Exception`, so that user code that catches those lets it pass.
    """


def leave_if_draining() -> None:
    """Leave the unit in hand if its worker is told to drain; outside of a unit, do nothing.

    Raises:
        UnitUnfinished: it is.
    """
    if _draining.is_set():
        raise UnitUnfinished


def sleep(seconds: float) -> None:
    """Sleep, and leave the unit in hand as soon as its worker is told to drain.

    Raises:
        UnitUnfinished: it is told so.
    """
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        leave_if_draining()
        # Not by the event's `wait`: a signal's handler would ask for its lock in this very thread.
        time.sleep(min(left, 0.2))
    leave_if_draining()


@contextmanager
def draining_is(event: threading.Event) -> Iterator[None]:
    """Let an event tell of draining for the length of a `with` block."""
    global _draining
    before, _draining = _draining, event
    try:
        yield
    finally:
        _draining = before
