"""How errors about a config quote a value, and hint at the name that was meant."""

from collections.abc import Iterable
from typing import Any


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
