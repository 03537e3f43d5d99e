"""As much of the shell's syntax as settings are written in. Nothing is ever run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^${}]*))?\})")


class NotUnderstood(Exception):
    """A text means something that only running it would tell; its message says what."""


def statements(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, continued ones joined, with the number of their first line."""
    number, held = 0, ""
    for i, line in enumerate(text.split("\n"), start=1):
        number = number or i
        # A comment ends with its line, a backslash at its end included.
        code = held + _without_comment(line)
        if code.endswith("\\") and not code.endswith("\\\\"):
            held = code[:-1]
            continue
        if code.strip():
            yield number, code.strip()
        number, held = 0, ""
    if held.strip():
        yield number, held.strip()


def _without_comment(line: str) -> str:
    quote = ""
    escaped = False
    for i, c in enumerate(line):
        if escaped:
            escaped = False
        elif c == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c == "#" and (i == 0 or line[i - 1].isspace() or line[i - 1] == ";"):
            return line[:i].rstrip()
    return line


def words(text: str) -> list[str]:
    """The words of a command without variables.

    Raises:
        NotUnderstood: if quotes are not closed, or the shell would run or replace something.
    """
    if "$(" in text or "`" in text:
        raise NotUnderstood("it runs a command, `$(...)`, whose output nobody knows here")
    if "$" in text:
        raise NotUnderstood("it has a variable that is not set here")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise NotUnderstood(f"its quotes cannot be read ({str(error).lower()})") from None


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """A text with its variables replaced, `${name:-default}` included.

    Raises:
        NotUnderstood: if one is not known, or a command would be run.
    """
    if "$(" in text or "`" in text:
        raise NotUnderstood("it runs a command, `$(...)`, whose output nobody knows here")

    def value(match: re.Match[str]) -> str:
        name, default = match[1] or match[2], match[3]
        if name in variables and (variables[name] or default is None):
            return variables[name]
        if default is None:
            raise NotUnderstood(f"the variable {name} is not set here")
        return default

    done = _VARIABLE.sub(value, text)
    if "$" in _VARIABLE.sub("", text):
        raise NotUnderstood("it has an expansion `$...` other than a variable")
    return done


def assigned_value(text: str, variables: Mapping[str, str]) -> str:
    """The value of the right side of an assignment.

    Raises:
        NotUnderstood: as above, or if more stands behind it.
    """
    if text.startswith("'") and text.endswith("'") and text.count("'") == 2:
        return text[1:-1]
    if text == "":
        return ""
    parts = words(expanded(text, variables))
    if len(parts) != 1:
        raise NotUnderstood("more stands behind the value")
    return parts[0]
