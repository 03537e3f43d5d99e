"""Finding an utterance id that comes twice among very many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np


class Repeat(NamedTuple):
    """What was found.

    Attributes:
        n_ids: How many ids there are.
        utt_id: The first one that comes again; None if none does.
        first: Its number, from 0.
        again: The number where it comes again.
    """

    n_ids: int
    utt_id: str | None = None
    first: int = -1
    again: int = -1


def first_repeat(ids: Callable[[], Iterable[bytes]]) -> Repeat:
    """Find the first id that comes again; 8 bytes of memory for each id.

    Args:
        ids: Called once or twice; the same ids in UTF-8 each time.
    """
    # Two passes over 64-bit hashes: a set of ten million ids would take more than a gigabyte.
    hashes = np.fromiter((hash(utt) for utt in ids()), dtype=np.int64)
    n_ids = len(hashes)
    hashes.sort()
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    seen: dict[bytes, int] = {}
    for number, utt in enumerate(ids() if suspects else ()):
        if hash(utt) in suspects:
            if utt in seen:
                return Repeat(n_ids, utt.decode(), seen[utt], number)
            seen[utt] = number
    return Repeat(n_ids)
