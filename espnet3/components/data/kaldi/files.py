"""One file of a Kaldi data directory: ``<key> <value>`` lines, sorted by the bytes of their keys.

Sorting as ``LC_ALL=C sort`` does is sorting by code points, which is what Python does with `str`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from operator import lt
from pathlib import Path

from espnet3.components.data.problems import Problems, decoded, first_line_with
from espnet3.utils import durable

# White space beyond ASCII, at which some programs split and others do not.
_WIDE_SPACES = "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_WIDE_SPACES += "\u2028\u2029\u202f\u205f\u3000"
_ODD = re.compile(f"[\x00-\x08\x0b-\x1f\x7f{_WIDE_SPACES}\ufeff]")


@dataclass
class KaldiTable:
    """The lines of one file. `keys[i]` and `values[i]` stand on line ``i + 1`` of what was read."""

    path: Path
    keys: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    def as_dict(self) -> dict[str, str]:
        """Return key -> value."""
        return dict(zip(self.keys, self.values, strict=True))


def read_table(path: Path, problems: Problems) -> KaldiTable:
    """Read one file; what Kaldi's ``validate_data_dir.sh`` refuses in any file is noted.

    Key and value are separated by spaces or tabs. A key alone has the value ``""``.

    Args:
        path: The file.
        problems: Gets what is wrong with encoding, white space, order and uniqueness of the keys.

    Raises:
        OSError: The file cannot be read.
    """
    data = path.read_bytes()
    text = decoded(data, path, problems)
    if not data:
        problems.add(path, None, "empty", "is empty")
        return KaldiTable(path)
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    else:
        problems.add(path, len(lines), "newline", "the last line does not end in a newline")
    if _looks_odd(text):
        lines = _note_odd_lines(path, lines, problems)
    if "\t" in text or "  " in text:
        lines = [" ".join(line.split(None, 1)) for line in lines]
    # Twice the work, but no million of pairs, each of which the garbage collector would look at.
    keys = [line.partition(" ")[0] for line in lines]
    table = KaldiTable(path, keys, [line.partition(" ")[2] for line in lines])
    _check_order(table, problems)
    return table


def write_table(table: KaldiTable) -> None:
    """Write a sorted file in one step.

    Raises:
        DataError: A key or value would break its line, or the keys are not sorted, each once.
    """
    problems = Problems()
    check_writable(table, problems)
    problems.raise_if_any("nothing was written, as this cannot stand in a Kaldi file")
    lines = (f"{k} {v}\n" if v else f"{k}\n" for k, v in zip(table.keys, table.values, strict=True))
    durable.replace(table.path, "".join(lines).encode())


def check_writable(table: KaldiTable, problems: Problems) -> None:
    """Note what could not be read back: order, keys, and values that would break their line."""
    _check_order(table, problems)
    path = table.path
    if not table.keys:
        problems.add(path, None, "empty", "is empty")
    for number, (key, value) in enumerate(zip(table.keys, table.values, strict=True), start=1):
        if key.isprintable() and value.isprintable() and " " not in key and key:
            found = None  # the common case
        elif not key or key.split() != [key]:
            text = f"{key!a} is no key: it is empty or holds white space"
            problems.add(path, number, "key", text)
            continue
        else:
            found = re.search(r"[\n\ud800-\udfff]", key + value) or _ODD.search(key + value)
        if found:
            problems.add(path, number, "white space", f"{key!r}: it holds {found.group()!a}")
        elif value != value.strip():
            text = f"{key!r}: the value begins or ends with white space"
            problems.add(path, number, "white space", text)


def is_sorted(keys: list[str]) -> bool:
    """Whether keys are in order, each once."""
    return all(map(lt, keys, islice(keys, 1, None)))


def check_same_keys(table: KaldiTable, like: list[str], of: str, problems: Problems) -> None:
    """Note which keys `table` has beyond those in `like`, and which it lacks; `of` says whose."""
    if table.keys == like:
        table.keys = like  # one list in memory instead of two
        return
    lines, wanted = first_line_with(table.keys), first_line_with(like)
    for key, number in lines.items():
        if key and key not in wanted:
            problems.add(table.path, number, f"not in {of}", f"{key!r} is not in {of}")
    for key, number in wanted.items():
        if key and key not in lines:
            there = f"{key!r} is in {of} (line {number}), but not here"
            problems.add(table.path, None, f"in {of} only", there)


def _looks_odd(text: str) -> bool:
    """Whether any line may hold white space that Kaldi refuses; quick, for millions of lines."""
    if text[:1] in (" ", "\t", "\n") or text[-1:] in (" ", "\t"):
        return True
    if any(pair in text for pair in ("\n\n", " \n", "\t\n", "\n ", "\n\t")):
        return True
    # All that is odd is unprintable, but not the other way round, and this test is far quicker.
    if text.replace("\n", "").replace("\t", "").isprintable():
        return False
    return _ODD.search(text) is not None


def _note_odd_lines(path: Path, lines: list[str], problems: Problems) -> list[str]:
    """Note lines with odd white space, and return them with plain one."""
    cleaned = []
    for number, line in enumerate(lines, start=1):
        found = _ODD.search(line)
        plain = _ODD.sub(" ", line) if found else line
        if found:
            text = f"the line holds {found.group()!a} at character {found.start()}"
            problems.add(path, number, "white space", text)
        if not plain.strip(" \t"):
            problems.add(path, number, "blank", "the line is blank")
        elif plain != plain.strip(" \t") and not found and not _is_empty_text(path, line):
            where = "begins" if plain[0] in " \t" else "ends"
            problems.add(path, number, "white space", f"the line {where} with white space")
        cleaned.append(plain.strip(" \t"))
    return cleaned


def _is_empty_text(path: Path, line: str) -> bool:
    """Whether a line is an id and one space: an empty transcript as our own `infer` writes it."""
    return path.name == "text" and line.count(" ") == 1 and line[-1] == " " and "\t" not in line


def _check_order(table: KaldiTable, problems: Problems) -> None:
    if is_sorted(table.keys):
        return
    first: dict[str, int] = {}
    previous = ""
    for number, key in enumerate(table.keys, start=1):
        if not key:
            continue  # a blank line, which was noted
        if key in first:
            text = f"{key!r} is already on line {first[key]}"
            problems.add(table.path, number, "twice", text)
        elif key < previous:
            text = f"{key!r} comes after {previous!r}, which is no byte order (LC_ALL=C sort)"
            problems.add(table.path, number, "not sorted", text)
        first.setdefault(key, number)
        previous = key
