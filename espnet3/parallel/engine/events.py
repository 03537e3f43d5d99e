"""The event log `events.jsonl`: what happened in a run and when, for people and for `espnet3.runs`.

It decides nothing. The owner alone appends to it, and what the disk refuses of it is lost: a run
never fails, waits or resumes because of its log. Lines are collected and written when the driver
has a moment, so that a lease costs microseconds; nothing is fsynced.

Each line is a JSON object with `time` (unix seconds), `epoch`, `event` and fields of its own.
Readers skip lines that they cannot read, events that they do not know, and lines of an older epoch
that stand behind a newer one: a former owner wrote those that did not know yet that it was one.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from espnet3.errors import OwnershipLost, RunFailed

logger = logging.getLogger(__name__)

AT_MOST = 256  # lines that are collected before they are written

PLANNING = "planning"
WAITING = "waiting"
RUNNING = "running"
DRAINING = "draining"
MERGING = "merging"
DONE = "done"
FAILED = "failed"
STOPPED = "stopped"


class EventLog:
    """The log of one start of a driver, from `with` to the end of that block.

    Args:
        path: of the log; None to log nothing.
        epoch: the number of this start.
        clock: tells unix seconds.
    """

    def __init__(
        self, path: Path | None, epoch: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._epoch = epoch
        self._clock = clock
        self._lines: list[str] = []
        self._told: tuple[str, str] = ("", "")
        self._warned = False
        self._fd = -1
        self._torn = False
        """The file does not end with a whole line."""
        if path is not None:
            self._open(path)

    def _open(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            size = os.fstat(self._fd).st_size
            self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        except OSError as error:
            self._warn(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OwnershipLost):  # the log is another's now
            self._lines.clear()
        elif error is not None and self._told[0] != STOPPED:
            self.state(*_end_by(error))
        self.close()

    def tell(self, event: str, **fields: Any) -> None:
        """Log one event.

        Args:
            event: its name.
            fields: what JSON can hold; None is left out.
        """
        if self._fd < 0:
            return
        entry = {"time": round(self._clock(), 3), "epoch": self._epoch, "event": event}
        entry |= {key: value for key, value in fields.items() if value is not None}
        self._lines.append(json.dumps(entry, separators=(",", ":"), default=str))
        if len(self._lines) >= AT_MOST:
            self.flush()

    def state(self, state: str, reason: str = "") -> None:
        """Log that the run is in another state now, and why; of one that lasts only once."""
        if self._told != (state, reason):
            self._told = state, reason
            self.tell("state", state=state, reason=reason or None)
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        if not self._lines:
            return
        data = "".join(f"{line}\n" for line in self._lines).encode()
        self._lines.clear()
        try:
            if self._torn:
                data = b"\n" + data
            self._torn = os.write(self._fd, data) != len(data)
        except OSError as error:
            self._torn = True
            self._warn(error)

    def close(self) -> None:
        """Write the rest and close the file."""
        self.flush()
        if self._fd >= 0:
            try:
                os.close(self._fd)
            except OSError as error:
                self._warn(error)
            self._fd = -1

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s is not complete (%s); the run does without", self._path, error.strerror
            )


NOWHERE = EventLog(None, 0)
"""Logs nothing."""


def _end_by(error: BaseException) -> tuple[str, str]:
    """The state that a run is in after an exception, and why."""
    if isinstance(error, KeyboardInterrupt):
        return STOPPED, "interrupted"
    if isinstance(error, SystemExit):
        return STOPPED, f"ended with status {error.code}"
    text = str(error).partition("\n")[0]
    return FAILED, text if isinstance(error, RunFailed) else f"{type(error).__name__}: {text}"
