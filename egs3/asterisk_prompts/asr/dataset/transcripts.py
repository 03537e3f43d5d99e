"""``core-sounds-<language>.txt.gz``: a line ``key: text`` for each prompt, and its oddities."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from espnet3.errors import DataError

_NOTE = re.compile(r"\[[^][]*\]|\([^()]*\)|<[^<>]*>")


def read_transcripts(path: Path) -> dict[str, str]:
    """Read key -> text as it stands, empty ones included.

    Of a key that comes twice the first one counts: in the Spanish list the second ``digits/0`` is
    what ``digits/10`` should be.

    Raises:
        DataError: A line is neither a comment nor has a key.
    """
    found: dict[str, str] = {}
    with gzip.open(path, "rt", encoding="utf-8-sig") as lines:  # the Italian one has a BOM
        for number, line in enumerate(lines, start=1):
            if line.startswith(";") or not line.strip():
                continue
            key, colon, text = line.partition(":")
            if not colon or not key.strip():
                raise DataError(f"{path}, line {number}: not `key: text`: {line.rstrip()!r}")
            # Once, in the Russian list, the key comes again in the text.
            text = text.strip().removeprefix(f"{key.strip()}:").strip()
            found.setdefault(key.strip(), text)
    return found


def spoken(text: str) -> str:
    """A transcript without notes such as ``[ascending tones]``, ``(in inglese)``, ``<beep>``.

    Some words in brackets are spoken all the same; nothing in the text tells them apart.
    """
    return " ".join(_NOTE.sub(" ", text).split())


def utterance_id(voice: str, key: str) -> str:
    """The id of a prompt: the voice first, as Kaldi wants it, and no slash."""
    return f"{voice}-{key.replace('/', '.')}"
