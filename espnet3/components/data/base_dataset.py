"""An optional base class for recipe data sets. Any class with these methods will do as well."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any


class BaseDataset(ABC):
    """What the stages need of a data set; inheriting it is a reminder, not a requirement.

    A data set may also offer, and wrappers forward only what it has:

    * ``utt_id(i) -> str``: the id of item `i` without reading audio;
    * ``durations() -> Sequence[float]``: seconds of audio of every item;
    * ``fingerprint() -> str``: changes when the data do, and only then;
    * ``thread_safe: bool``: whether items may be read by several threads at once;
    * ``column(name) -> Sequence``: one field of every item without reading audio; `KeyError` for a
      field that it cannot give that way.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of utterances."""

    @abstractmethod
    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return utterance `index`: ``utt_id`` (or the config's ``idx_key``) and its fields."""
