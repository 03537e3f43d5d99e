"""The statistics of one utterance, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from espnet3.components.data.stats.features import Array, array_fields
from espnet3.errors import DataError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class StatsRecord:
    """What is kept of one utterance.

    Attributes:
        utt_id: Its id, not yet checked.
        fields: Shape of each field of the item that is an array.
        features: Shape of each feature: (frames, ...).
        rows: For each feature a row of float64: the number of frames, the sum of each dimension
            over the frames, the sum of its squares. (1 + 2 D,)
        arrays: The features themselves, if they are to be written.
    """

    utt_id: Any
    fields: Mapping[str, Shape]
    features: Mapping[str, Shape]
    rows: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]
    arrays: Mapping[str, Array]


def record_of(utt_id: Any, item: Any, features: Mapping[str, Array], *, keep: bool) -> StatsRecord:
    """Make the record of one utterance; each sum depends on its own frames alone.

    Args:
        utt_id: The utterance.
        item: As the data set gave it.
        features: (frames, ...) each.
        keep: The features are to be written.

    Raises:
        DataError: A feature has no frames, is not made of numbers, or a sum is not finite.
    """
    return StatsRecord(
        utt_id,
        {name: a.shape for name, a in array_fields(item).items() if name not in features},
        {name: array.shape for name, array in features.items()},
        {name: _row(array, f"utterance {utt_id!r}: {name}") for name, array in features.items()},
        features if keep else {},
    )


def _row(array: Array, where: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    if array.dtype.kind not in "fiub":
        raise DataError(f"{where} holds {array.dtype}, not real numbers")
    if array.size == 0:
        raise DataError(f"{where} is empty: its shape is {array.shape}")
    # One memory layout for all: in which order NumPy adds depends on it.
    frames = np.ascontiguousarray(array, np.float64).reshape(len(array), -1)
    with np.errstate(over="ignore", invalid="ignore"):
        row = np.concatenate([[len(frames)], frames.sum(axis=0), np.square(frames).sum(axis=0)])
    if not np.isfinite(row).all():
        raise DataError(f"{where} holds NaN or infinity, or numbers too large to be squared")
    return row
