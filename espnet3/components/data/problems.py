"""Everything that is wrong with some text files, told at once and not at endless length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espnet3.errors import DataError

SHOWN = 5
"""How many problems of one kind in one file are told; the others are counted."""


class Problems:
    """Collects what is wrong, each with its file and line, the like together."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Path, str], tuple[list[str], list[int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def add(self, path: Path, line: int | None, kind: str, text: str) -> None:
        """Note one problem.

        Args:
            path: The file.
            line: From 1; `None` for the file as a whole.
            kind: What the problem has in common with others.
            text: The problem itself.
        """
        shown, count = self._kinds.setdefault((path, kind), ([], [0]))
        count[0] += 1
        if len(shown) < SHOWN:
            shown.append(f"{path}: {text}" if line is None else f"{path}, line {line}: {text}")

    def lines(self) -> list[str]:
        """Return the problems by kind, in the order in which the kinds came up."""
        told = []
        for (path, kind), (shown, count) in self._kinds.items():
            told += shown
            if count[0] > len(shown):
                told.append(f"{path}: {count[0] - len(shown)} more like this ({kind})")
        return told

    def raise_if_any(self, what: str, advice: str = "") -> None:
        """Raise one `DataError` with all problems, if there are any."""
        if self:
            raise DataError("\n  ".join([f"{what}:", *self.lines()]) + _on_a_line(advice))


def line_of(data: bytes, offset: int) -> int:
    """Return the line, from 1, that the byte at `offset` is on."""
    return data.count(b"\n", 0, offset) + 1


def decoded(data: bytes, path: Path, problems: Problems) -> str:
    """Return UTF-8 as text; what is none is noted, and replaced so that reading can go on."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"not UTF-8 (byte 0x{data[error.start]:02x})"
        problems.add(path, line_of(data, error.start), "not UTF-8", found)
        return data.decode("utf-8", "replace")


def first_line_with(keys: Sequence[str]) -> dict[str, int]:
    """Return the first line, from 1, of each key."""
    lines: dict[str, int] = {}
    for number, key in enumerate(keys, start=1):
        lines.setdefault(key, number)
    return lines


def _on_a_line(advice: str) -> str:
    return f"\n{advice}" if advice else ""
