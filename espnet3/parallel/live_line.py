"""One line at the bottom of the terminal that is drawn over and over; what is logged goes above it.

In a notebook it is a display of its own. Elsewhere (a file, a pipe) there is none.
"""

import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol

from espnet3.parallel.engine.tally import PROGRESS

EVERY = 0.5  # seconds between two drawings
NOTEBOOK_EVERY = 1.0

_shown = threading.Lock()  # one line at a time, whoever else runs in this process


class _Display(Protocol):
    every: float

    def draw(self, text: str) -> None: ...

    def close(self, text: Callable[[], str]) -> None: ...


@contextmanager
def live_line(text: Callable[[], str]) -> Iterator[None]:
    """Show what `text` gives, for the length of a `with` block.

    Not where warnings are not logged either, nor beside another such line.

    Args:
        text: called by a thread, twice a second; "" shows nothing.
    """
    quiet = logging.getLogger("espnet3").getEffectiveLevel() > logging.WARNING
    if quiet or not _shown.acquire(blocking=False):
        yield
        return
    try:
        with ExitStack() as stack:
            display = _display(stack)
            if display is not None:
                stack.enter_context(_drawn(display, text))
            yield
    finally:
        _shown.release()


@contextmanager
def _drawn(display: _Display, text: Callable[[], str]) -> Iterator[None]:
    over = threading.Event()

    def draw() -> None:
        while not over.wait(display.every):
            with suppress(Exception):  # whatever it is, it is only this line that suffers
                display.draw(text())

    thread = threading.Thread(target=draw, name="espnet3-live-line", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5.0)
        display.close(text)


def _display(stack: ExitStack) -> _Display | None:
    if (notebook := _Notebook.here()) is not None:
        stack.enter_context(_without_repetition(sys.stderr, sys.stdout))
        return notebook
    if not _is_terminal(sys.stderr) or os.environ.get("TERM") == "dumb":
        return None
    terminal = _Terminal(sys.stderr)
    stack.enter_context(_without_repetition(sys.stderr, sys.stdout))
    for name in ("stderr", "stdout"):
        if _is_terminal(getattr(sys, name)):
            stack.enter_context(_above(terminal, name))
    return terminal


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


class _Terminal:
    """The line, on a stream that is a terminal."""

    every = EVERY

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._line = ""
        self._at_start = True
        """What others have written ended with a line."""

    def draw(self, text: str) -> None:
        """Show this from now on."""
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            if text != self._line or not text:
                self._line = text[: max(0, width)]
                self._redraw()

    def write_above(self, stream: Any, text: str) -> int:
        """Write what belongs to others where the line stands, and the line below it again."""
        with self._lock:
            if self._line and self._at_start:
                self._stream.write("\r\x1b[K")
                self._stream.flush()
            n: int = stream.write(text)
            if text:
                self._at_start = text.endswith("\n")
            stream.flush()
            self._redraw()
        return n

    def close(self, text: Callable[[], str]) -> None:
        """Take the line away; what became of the run is logged."""
        with self._lock:
            self._line = ""
            self._redraw()

    def _redraw(self) -> None:
        if self._at_start:
            with suppress(OSError, ValueError):  # the terminal is gone
                self._stream.write(f"\r{self._line}\x1b[K")
                self._stream.flush()


class _Above:
    """Stands for a stream that shows on the terminal; what is written to it goes above the line."""

    def __init__(self, terminal: _Terminal, stream: Any) -> None:
        self._terminal = terminal
        self._stream = stream

    def write(self, text: str) -> int:
        return self._terminal.write_above(self._stream, text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _above(terminal: _Terminal, name: str) -> Iterator[None]:
    """Let a stream of `sys`, and the log handlers that have it, write above the line."""
    stream = getattr(sys, name)
    ours = _Above(terminal, stream)
    handlers = _handlers_of(stream)
    setattr(sys, name, ours)
    for handler in handlers:
        handler.setStream(ours)
    try:
        yield
    finally:
        for handler in handlers:
            if handler.stream is ours:
                handler.setStream(stream)
        if getattr(sys, name) is ours:
            setattr(sys, name, stream)


@contextmanager
def _without_repetition(*streams: Any) -> Iterator[None]:
    """Leave out of what is logged there what the line says all the time."""

    def is_other(record: logging.LogRecord) -> bool:
        return not hasattr(record, PROGRESS)

    handlers = [handler for stream in streams for handler in _handlers_of(stream)]
    for handler in handlers:
        handler.addFilter(is_other)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_other)


def _handlers_of(stream: Any) -> list[Any]:
    loggers = [logging.getLogger(), logging.getLogger("espnet3")]
    handlers = [handler for logger in loggers for handler in logger.handlers]
    return [h for h in handlers if isinstance(h, logging.StreamHandler) and h.stream is stream]


class _Notebook:
    """The line, as a display of a notebook's cell."""

    every = NOTEBOOK_EVERY

    def __init__(self, display: Callable[..., Any]) -> None:
        self._handle = display(self._bundle(""), raw=True, display_id=True)
        self._text = ""

    @classmethod
    def here(cls) -> "_Notebook | None":
        """One, if this is the kernel of a notebook."""
        ipython = sys.modules.get("IPython")
        shell = ipython.get_ipython() if ipython is not None else None
        if shell is None or not hasattr(shell, "kernel"):
            return None
        from IPython.display import display

        return cls(display)

    def draw(self, text: str) -> None:
        """Show this from now on."""
        if text != self._text:
            self._text = text
            self._handle.update(self._bundle(text), raw=True)

    def close(self, text: Callable[[], str]) -> None:
        """Leave a line that is true."""
        with suppress(Exception):
            self.draw(text())

    @staticmethod
    def _bundle(text: str) -> dict[str, str]:
        return {"text/plain": text}
