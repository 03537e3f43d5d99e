"""Data sets around data sets: one with functions applied to its items, several as one.

Both hand on what the inner data sets can do beyond items (see `BaseDataset`), and have exactly
those attributes: ``hasattr(wrapped, "durations")`` is true where the data can answer, only there.
"""

from __future__ import annotations

import hashlib
import operator
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, chain
from typing import Any

from espnet3.components.data.offers import OPTIONAL


def is_espnet_preprocessor(candidate: object) -> bool:
    """Tell whether an object or class is an ESPnet2 ``AbsPreprocessor``, without importing it."""
    cls = candidate if isinstance(candidate, type) else type(candidate)
    return any(base.__name__ == "AbsPreprocessor" for base in cls.__mro__)


class DatasetWithTransform:
    """A data set whose items go through `transform`, then through `preprocessor`.

    Both are called with the item; an ESPnet2 ``AbsPreprocessor`` is called with (utterance id,
    item), where the id is the data set's ``utt_id(i)`` if it has that, else the index as text.

    ``column`` is handed on only without a transform and preprocessor, which could change any field;
    ``thread_safe`` is true only if both say so of themselves as well.
    """

    def __init__(
        self,
        dataset: Any,
        transform: Callable[..., Any] | None = None,
        preprocessor: Callable[..., Any] | None = None,
    ) -> None:
        for name, function in (("transform", transform), ("preprocessor", preprocessor)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} is to be callable, not {function!r}")
        self.dataset = dataset
        self.transform = transform
        self.preprocessor = preprocessor
        self._takes_id = is_espnet_preprocessor(preprocessor)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        item = self.dataset[index]
        if self.transform is not None:
            item = self.transform(item)
        if self.preprocessor is None:
            return item
        if self._takes_id:
            utt_id = self.dataset.utt_id(index) if hasattr(self.dataset, "utt_id") else str(index)
            return self.preprocessor(utt_id, item)
        return self.preprocessor(item)

    def __getattr__(self, name: str) -> Any:
        # Reached only for names that are not there. `dataset` itself is missing in a copy or
        # unpickled object that is still empty.
        if name not in OPTIONAL or "dataset" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = getattr(self.dataset, name)
        functions = [f for f in (self.transform, self.preprocessor) if f is not None]
        if name == "column" and functions:
            raise AttributeError("a transform or preprocessor may change what is in a column")
        if name == "thread_safe":
            return bool(value) and all(getattr(f, "thread_safe", False) for f in functions)
        return value


class CombinedDataset:
    """Several data sets, one after the other.

    Nothing is read to build it: that all items have the same fields, and that no id comes twice, is
    not checked here. What the data sets offer is offered only where all of them do.
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        self._ends = list(accumulate(len(dataset) for dataset in self.datasets))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Any:
        dataset, inner = self._locate(index)
        return dataset[inner]

    def __getattr__(self, name: str) -> Any:
        datasets: list[Any] = self.__dict__.get("datasets", [])
        if name not in OPTIONAL or not datasets or not all(hasattr(d, name) for d in datasets):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name == "thread_safe":
            return all(dataset.thread_safe for dataset in datasets)
        return getattr(self, f"_{name}")

    def _locate(self, index: int) -> tuple[Any, int]:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of a combined data set with {len(self)} items")
        which = bisect_right(self._ends, index)
        return self.datasets[which], index - (self._ends[which - 1] if which else 0)

    def _utt_id(self, index: int) -> str:
        dataset, inner = self._locate(index)
        return str(dataset.utt_id(inner))

    def _durations(self) -> Sequence[float]:
        return list(chain.from_iterable(dataset.durations() for dataset in self.datasets))

    def _fingerprint(self) -> str:
        parts = [f"{len(dataset)} {dataset.fingerprint()}" for dataset in self.datasets]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _column(self, name: str) -> Sequence[Any]:
        return list(chain.from_iterable(dataset.column(name) for dataset in self.datasets))
