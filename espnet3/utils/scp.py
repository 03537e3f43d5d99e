"""SCP, Kaldi text and sclite trn files: one utterance per line, and nothing that can break a line.

One rule for the whole product, so that a line can never be read back as something else:

* a line is ``<utterance id> <value>``, split on the first space only, ended by ``\\n`` only;
* an id is not empty, at most 200 bytes of UTF-8 (it becomes a file name), and holds no white space,
  no control character, no ``/`` or ``\\``, no lone surrogate, and is not ``.`` or ``..``;
* a value holds no character at which `str.splitlines` breaks a line, no NUL, no lone surrogate.

What breaks the rule is refused by name, never escaped or mended; everything else, leading and
trailing spaces of a value included, goes through untouched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet3.errors import DataError, RecordRejected
from espnet3.utils import durable

MAX_ID_BYTES = 200
"""Longest utterance id in UTF-8. File systems take 255; the rest is for an extension."""

_BAD_IN_ID = re.compile(r"[\s\x00-\x1f\x7f-\x9f/\\\ud800-\udfff]")
_PLAIN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,198}").fullmatch
_BAD_IN_VALUE = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029\x00\ud800-\udfff]")


def check_utt_id(value: object, where: str) -> str:
    """Return `value` if it can be an utterance id.

    Args:
        value: The id. Only `str` is taken: an id that is a number in one place and text in another
            would not be found again.
        where: What the id belongs to, for the message, such as ``"test set 'test', item 3"``.

    Raises:
        RecordRejected: the rule of this module does not allow the id.
    """
    if not isinstance(value, str):
        problem: str | None = f"is {type(value).__name__}, not str"
    elif (problem := _id_problem(value)) is None:
        return value
    raise RecordRejected(f"{where}: utterance id {_show(value)} {problem}")


def check_scp_value(value: object, utt_id: str, field: str) -> str:
    """Return `value` if it can stand in one line of ``<field>.scp``.

    Args:
        value: The text. Numbers and paths are to be turned into `str` by the caller.
        utt_id: The utterance, for the message.
        field: The output field, for the message.

    Raises:
        RecordRejected: the value is not a `str`, or would break its line.
    """
    if not isinstance(value, str):
        raise RecordRejected(
            f"utterance {utt_id!r}, field {field!r}: {_show(value)} is {type(value).__name__}, "
            "not str"
        )
    # Nothing printable breaks a line, and this test is several times quicker than the search.
    if value.isprintable() or (found := _BAD_IN_VALUE.search(value)) is None:
        return value
    raise RecordRejected(
        f"utterance {utt_id!r}, field {field!r}: the text holds {_name(found.group())} at "
        f"character {found.start()}, which one line of a file cannot hold; replace it where the "
        "text is made (output_fn, format_output, or the data set)"
    )


def read_scp(path: str | Path) -> dict[str, str]:
    """Read ``<id> <value>`` lines, in file order. A line with an id alone has the value ``""``.

    Raises:
        DataError: naming file and line: not UTF-8, an id twice, or an id or value that
            `write_scp` would not have written.
        FileNotFoundError: there is no such file.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    values: dict[str, str] = {}
    first_seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        utt_id, _, value = line.partition(" ")
        problem = _id_problem(utt_id)
        if problem is not None:
            raise DataError(f"{path}, line {number}: utterance id {_show(utt_id)} {problem}")
        if utt_id in first_seen:
            raise DataError(
                f"{path}, line {number}: utterance {utt_id!r} is already on line "
                f"{first_seen[utt_id]}"
            )
        if not value.isprintable() and (found := _BAD_IN_VALUE.search(value)) is not None:
            raise DataError(
                f"{path}, line {number}: the value of {utt_id!r} holds {_name(found.group())}; "
                "lines end in \\n alone"
            )
        first_seen[utt_id] = number
        values[utt_id] = value
    return values


def write_scp(path: str | Path, items: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
    """Write ``<id> <value>`` lines in the given order: the whole file at once, or nothing.

    Raises:
        RecordRejected: an id or value breaks the rule; nothing has been written then.
        DataError: an id comes twice.
    """
    pairs = _checked(Path(path), items)
    durable.replace(Path(path), "".join(f"{utt} {value}\n" for utt, value in pairs).encode())


def write_trn(path: str | Path, items: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
    """Write sclite's ``<text> (<id>)`` lines; otherwise as `write_scp`.

    sclite reads braces and slashes in the text as alternatives; they are written as they are.
    """
    pairs = _checked(Path(path), items)
    durable.replace(Path(path), "".join(f"{value} ({utt})\n" for utt, value in pairs).encode())


def _checked(
    path: Path, items: Mapping[str, str] | Iterable[tuple[str, str]]
) -> list[tuple[str, str]]:
    pairs = list(items.items() if isinstance(items, Mapping) else items)
    seen: set[str] = set()
    for utt_id, value in pairs:
        check_utt_id(utt_id, str(path))
        check_scp_value(value, utt_id, path.stem)
        if utt_id in seen:
            raise DataError(f"{path}: utterance {utt_id!r} comes twice")
        seen.add(utt_id)
    return pairs


def _id_problem(value: str) -> str | None:
    if _PLAIN_ID(value) is not None:
        return None  # the common case, several times quicker than what follows
    if not value:
        return "is empty"
    if (found := _BAD_IN_ID.search(value)) is not None:
        return f"holds {_name(found.group())}, which an id (it becomes a file name) cannot hold"
    if value in (".", ".."):
        return "names a directory"
    if len(value) > MAX_ID_BYTES // 4 and len(value.encode()) > MAX_ID_BYTES:
        return f"is longer than {MAX_ID_BYTES} bytes in UTF-8"
    return None


def _name(character: str) -> str:
    return f"{character!a} (U+{ord(character):04X})"


def _show(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
