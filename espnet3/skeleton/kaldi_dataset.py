"""``dataset/dataset.py`` of a recipe whose data are Kaldi directories."""

from __future__ import annotations

from espnet3.skeleton.recipe import python_string

_TEXT = '''\
"""Reading the Kaldi data directories of this recipe."""

from __future__ import annotations

from pathlib import Path

from espnet3.components.data.kaldi_dataset import KaldiDataset
from espnet3.errors import DataError

DATA = {data}
"""Holds a directory for each split{note}."""


class CorpusDataset(KaldiDataset):
    """One split, sorted by utterance id; see `KaldiDataset` for what an item has.

    Args:
        split: The name of its directory.
        allow_pipes: Whether a ``command |`` in its files may be run, by the shell.

    Raises:
        DataError: It is not there, or is no valid data directory.
    """

    def __init__(self, split: str, allow_pipes: bool = False) -> None:
        if not (DATA / split).is_dir():
            raise DataError(f"split {{split!r}} is not there: {{DATA / split}} is missing")
        super().__init__(DATA / split, allow_pipes=allow_pipes)
'''


def kaldi_dataset(existing: str = "") -> str:
    """The text of the file.

    Args:
        existing: where the directories are already; the recipe's own ``data/`` if left out.
    """
    if not existing:
        return _TEXT.format(data='Path(__file__).parents[1] / "data"', note="")
    note = ", as ESPnet2 has made it"
    return _TEXT.format(data=f"Path({python_string(existing)})", note=note)
