"""What a data set may offer beside its items (see `BaseDataset`), asked for and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from espnet3.errors import DataError, RecordRejected
from espnet3.utils.scp import check_utt_id
from espnet3.utils.unique_ids import first_repeat

OPTIONAL = ("utt_id", "durations", "fingerprint", "thread_safe", "column")
"""The names of what may be offered."""


def utterance_id(dataset: Any, index: Any, item: Any, key: str = "utt_id") -> Any:
    """The id of an item: its own field `key`, else ``dataset.utt_id(index)``, else the index."""
    if isinstance(item, Mapping) and item.get(key) is not None:
        return item[key]
    utt_id = getattr(dataset, "utt_id", None)
    return utt_id(index) if callable(utt_id) else str(index)


def check_ids(dataset: Any, what: str) -> None:
    """Find an id that comes twice or cannot be one, where the data set knows its ids.

    Raises:
        DataError: Naming `what`, the data set.
    """
    utt_id = getattr(dataset, "utt_id", None)
    if not callable(utt_id):
        return  # found when the outputs are merged

    def ids() -> Iterator[bytes]:
        for i in range(len(dataset)):
            yield check_utt_id(utt_id(i), f"{what}, item {i}").encode()

    try:
        repeat = first_repeat(ids)
    except RecordRejected as error:
        raise DataError(str(error)) from None
    if repeat.utt_id is not None:
        raise DataError(
            f"{what}: utterance id {repeat.utt_id!r} comes twice, at positions {repeat.first} "
            f"and {repeat.again}; give every utterance an id of its own"
        )


def durations_of(dataset: Any, what: str) -> Sequence[float] | None:
    """Seconds of audio of each item; None where the data set knows none.

    Raises:
        DataError: They are not as many as items.
    """
    method = getattr(dataset, "durations", None)
    durations: Sequence[float] | None = method() if callable(method) else None
    if durations is not None and len(durations) != len(dataset):
        raise DataError(
            f"{what}: durations() gives {len(durations)} numbers for {len(dataset)} items"
        )
    return durations
