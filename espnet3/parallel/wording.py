"""How messages quote what others wrote, and hint at what was meant or is to be done."""

from collections.abc import Iterable
from typing import Any

LINE = 240  # characters of an exception's first line; what is to be done often stands at its end


def shown(value: Any) -> str:
    """A value as an error quotes it: with its kind where that is what is wrong."""
    text = repr(value)
    text = text if len(text) <= 80 else text[:77] + "..."
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {text}"
    return f"{text} ({type(value).__name__})"


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint at the valid name nearest to ``name``, or at all of them where they are few."""
    import difflib  # only ever needed for an error

    valid = sorted(valid)
    matches = difflib.get_close_matches(name.lower(), valid, n=1, cutoff=0.6)
    if matches:
        return f"did you mean {matches[0]}?"
    return f"valid: {', '.join(valid)}" if len(valid) <= 20 else "nothing valid is spelled like it"


def first_line(text: str) -> str:
    """The first line of what an exception says, for a line of a table or a log."""
    line = printable(text.strip().splitlines()[0]) if text.strip() else "(no message)"
    return line if len(line) <= LINE else line[: LINE - 3] + "..."


def printable(text: str) -> str:
    """A text of anybody's for a terminal: whatever could move the cursor is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def unless_resuming(resume: bool) -> str:
    """What a command that goes on with this run must leave out, as an ending for its name."""
    return "" if resume else " without `resume: false`"
