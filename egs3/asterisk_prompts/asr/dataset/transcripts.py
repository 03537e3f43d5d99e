"""``core-sounds-<language>.txt.gz``: a line ``key: text`` for each prompt, and its oddities."""

from __future__ import annotations

import gzip
from pathlib import Path

from espnet3.components.data.text import TextNormalizer
from espnet3.errors import DataError


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


def normalizer(language: str) -> TextNormalizer:
    """What transcripts and hypotheses go through.

    Notes such as ``[ascending tones]`` and ``(in inglese)`` are left out; some words in brackets
    are spoken all the same, and nothing in the text tells them apart. Numbers of four digits and
    more are extensions here, which are read digit by digit.
    """
    return TextNormalizer.for_language(language, digit_by_digit_from=4, letters_joined=True)


def utterance_id(voice: str, key: str) -> str:
    """The id of a prompt: the voice first, as Kaldi wants it, and no slash."""
    return f"{voice}-{key.replace('/', '.')}"
