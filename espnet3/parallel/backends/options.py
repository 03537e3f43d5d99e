"""Checking `options` of the backends that are ours alone, and laying them over our defaults."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from espnet3.parallel.wording import nearest, shown

Kind = tuple[str, Callable[[Any], bool]]
"""What an option must be, in words and as a test."""


def is_text(value: Any) -> bool:
    """Whether it is a text with something in it."""
    return isinstance(value, str) and bool(value)


def is_texts(value: Any) -> bool:
    """Whether it is a list of such texts."""
    return isinstance(value, list) and all(is_text(text) for text in value)


TEXT: Kind = ("a text", is_text)
TEXTS: Kind = ("a list of texts", is_texts)
BLOCK: Kind = ("a block of keys", lambda value: isinstance(value, dict))
POSITIVE: Kind = ("a whole number, 1 or more", lambda value: type(value) is int and value > 0)


def kind_problems(
    env: str,
    options: Mapping[str, Any],
    known: Mapping[str, Any],
    kinds: Mapping[str, Kind],
    elsewhere: Mapping[str, str] | None = None,
) -> list[str]:
    """What is wrong with each option by itself, one sentence each.

    Args:
        env: The backend.
        options: What the user has set; None is as good as left out.
        known: Every option that there is.
        kinds: What those must be that cannot be anything.
        elsewhere: What is often looked for here, and where it belongs.
    """
    problems = []
    for key, value in options.items():
        name = f"parallel.options.{key}"
        if elsewhere and key in elsewhere:
            problems.append(f"{name}: {elsewhere[key]}")
        elif key not in known:
            problems.append(f"{name}: {env} has no such option; {nearest(key, known)}")
        elif key in kinds and value is not None and not kinds[key][1](value):
            problems.append(f"{name}: must be {kinds[key][0]}, not {shown(value)}")
    return problems


def laid_over(
    defaults: Mapping[str, Any], options: Mapping[str, Any], logs: Path
) -> dict[str, Any]:
    """The user's options over ours; what workers say at start goes to `logs` unless they say so."""
    given = {key: value for key, value in options.items() if value is not None}
    return {**defaults, "log_directory": str(logs), **given}
