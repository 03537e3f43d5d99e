"""The options of ``sbatch`` and ``qsub``, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from espnet3.migrate.kaldi_conf import Piece
from espnet3.migrate.shell_text import words


@dataclass(frozen=True)
class Flag:
    """An option of the command that submits.

    Attributes:
        name: With its dashes.
        value: What stands behind it; "" if nothing.
        text: Both, as they were written.
        piece: Where it comes from.
    """

    name: str
    value: str
    text: str
    piece: Piece


def take_apart(piece: Piece) -> list[Flag]:
    """The flags of a piece; a word that belongs to none is one without dashes.

    Raises:
        NotUnderstood: if the shell would have run or replaced something in it.
    """
    flags: list[Flag] = []
    for word in words(piece.text):
        if word.startswith("-") and not re.fullmatch(r"-\d+", word):
            name, _, value = word.partition("=")
            if not word.startswith("--"):
                # `-c4`, but `-cwd` and `-pe` are names.
                match = re.fullmatch(r"(-[a-zA-Z])(\d\S*)", word)
                name, value = (match[1], match[2]) if match else (word, "")
            flags.append(Flag(name, value, word, piece))
        elif flags and (not flags[-1].value or flags[-1].name == "-pe"):
            last = flags[-1]
            value = f"{last.value} {word}".strip()
            flags[-1] = Flag(last.name, value, f"{last.text} {word}", piece)
        else:
            flags.append(Flag("", word, word, piece))
    return flags
