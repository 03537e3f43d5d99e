"""Batches that did not fit into memory: told once, with what to set."""

import logging

from espnet3.parallel.engine.events import EventLog
from espnet3.parallel.engine.report import OutOfMemory

logger = logging.getLogger(__name__)

MARGIN = 0.9  # of what was seen to fit: neighbours and fragments take some, too


class MemoryAdvice:
    """Hears what workers learn about memory.

    Args:
        events: is told of each batch that did not fit.
    """

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._told: OutOfMemory | None = None

    def heard(self, found: OutOfMemory, worker: str) -> None:
        """A worker has done a batch in parts. Logged if nothing was said yet, or too much."""
        text = told(found)
        self._events.tell("out_of_memory", worker=worker, told=text, set=advice(found))
        if self._told is None or found.fits < self._told.fits:
            self._told = found
            logger.warning("%s", text)


def told(found: OutOfMemory) -> str:
    """What happened, how the run goes on, and what to set, in one line."""
    what, on = f"{found.n_items} items", f" on {found.device}" if found.device else ""
    if found.are_seconds:
        longest = found.cost / found.n_items
        what += f" of up to {longest:.1f} s ({found.cost:.0f} padded seconds)"
    fits = f"{found.fits:.0f}" if found.are_seconds else f"{found.n_fits}"
    return f"out of memory with {what}{on}; going on with at most {fits}; set {advice(found)}"


def advice(found: OutOfMemory) -> str:
    """What to set so that batches fit from the start."""
    if not found.are_seconds:
        return f"`batch_size: {found.n_fits}`"
    two_digits = float(f"{MARGIN * found.fits:.2g}")
    return f"`run: {{batch_seconds: {two_digits:g}}}`"
