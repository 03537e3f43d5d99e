"""Features of data set items: by a function, or by a model's ``collect_feats``.

PyTorch is never imported here; where a model has brought it, the model gets and may return tensors.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from espnet3.errors import ConfigError, DataError

Array = np.ndarray[Any, Any]

LENGTHS = "_lengths"
_PADDING = {"f": 0.0, "c": 0.0, "i": -1, "u": 0, "b": False}
"""By dtype kind; those of ESPnet3's collation for statistics."""


def to_array(value: Any) -> Array | None:
    """An array, or a tensor on any device as one; None for everything else."""
    if isinstance(value, np.ndarray):
        return value
    for name in ("detach", "cpu", "numpy"):
        if not hasattr(value, name):
            return None
        value = getattr(value, name)()
    return value if isinstance(value, np.ndarray) else None


def array_fields(item: Any) -> dict[str, Array]:
    """The fields of an item that are numbers in an array of one axis or more, by name.

    Raises:
        DataError: The item is no mapping, or a field has a name that belongs to lengths.
    """
    if not isinstance(item, Mapping):
        raise DataError(f"an item of the data set is a mapping, not {type(item).__name__}")
    fields = {}
    for name, value in item.items():
        array = to_array(value)
        if array is None or array.ndim == 0 or array.dtype.kind not in _PADDING:
            continue
        if str(name).endswith(LENGTHS):
            raise DataError(f"field {name!r}: names in {LENGTHS} are for the lengths of a batch")
        fields[str(name)] = array
    return fields


class FunctionFeatures:
    """Features by a function ``item -> {name: array}``.

    Args:
        function: Gets one item of the data set; gives arrays of shape (frames, ...).
        name: What messages call it.
    """

    def __init__(self, function: Callable[[Any], Any], name: str) -> None:
        self._function, self._name = function, name

    def __call__(self, items: Sequence[Any]) -> list[dict[str, Array]]:
        """Features of each item.

        Raises:
            TypeError: The function gave something else.
        """
        return [self._checked(self._function(item)) for item in items]

    def _checked(self, result: Any) -> dict[str, Array]:
        arrays = result.items() if isinstance(result, Mapping) else None
        features = {str(key): to_array(value) for key, value in arrays or ()}
        wrong = [key for key, value in features.items() if value is None or value.ndim == 0]
        if arrays is None or wrong:
            got = f"{wrong[0]!r}: {type(result[wrong[0]]).__name__}" if wrong else type(result)
            raise TypeError(
                f"collect_feats: {self._name} gave {got}; it must return a dict such as "
                "{'feats': array of shape (frames, dimensions)}"
            )
        return {key: value for key, value in features.items() if value is not None}


class ModelFeatures:
    """Features by ``model.collect_feats(**batch)``, as ESPnet's models have it.

    The batch holds every array field of the items, padded to (batch, longest, ...), and
    ``<field>_lengths``, (batch,) in int64. Padding is 0 for floats and -1 for integers. A model
    whose ``collect_feats`` takes no ``**kwargs`` gets the entries that it names. What comes back
    is ``{name: (batch, longest, ...), name_lengths: (batch,)}``; a feature without lengths is one
    frame for each item.

    Args:
        model: Called in evaluation mode and without gradients if it is a PyTorch module.
        device: Where a PyTorch module computes.

    Raises:
        ConfigError: It has no ``collect_feats``.
    """

    def __init__(self, model: Any, device: str = "cpu") -> None:
        self._collect = getattr(model, "collect_feats", None)
        if not callable(self._collect):
            raise ConfigError(
                f"model: {type(model).__name__} has no method collect_feats(**batch); write one, "
                "or name a function for it under collect_stats.collect_feats"
            )
        torch: Any = sys.modules.get("torch")
        module = getattr(getattr(torch, "nn", None), "Module", None)
        self._torch = torch if module is not None and isinstance(model, module) else None
        self._device = device
        self._names = _parameters(self._collect)
        if self._torch is not None:
            model.to(device).eval()

    def __call__(self, items: Sequence[Any]) -> list[dict[str, Array]]:
        """Features of each item, without the frames that are padding.

        Raises:
            DataError: The items cannot be one batch.
            TypeError: The model gave something else than its contract says.
        """
        batch: dict[str, Any] = collate([array_fields(item) for item in items])
        if self._names is not None:
            batch = {name: array for name, array in batch.items() if name in self._names}
        quiet: AbstractContextManager[Any] = nullcontext()
        if self._torch is not None:
            batch = {k: self._torch.from_numpy(v).to(self._device) for k, v in batch.items()}
            quiet = self._torch.no_grad()
        collect: Any = self._collect
        with quiet:
            result = collect(**batch)
        return _split(result, len(items))


def _parameters(function: Callable[..., Any]) -> set[str] | None:
    """Names that a function takes; None if it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name for parameter in parameters}


def collate(items: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """One batch of several items: each field padded, and its lengths.

    Raises:
        DataError: The items do not have the same fields, or arrays of one field differ in more than
            their first axis.
    """
    names = sorted(items[0])
    batch: dict[str, Array] = {}
    for item in items:
        if sorted(item) != names:
            raise DataError(f"items of one batch have the fields {names} and {sorted(item)}")
    for name in names:
        arrays = [item[name] for item in items]
        if len({array.shape[1:] for array in arrays}) > 1:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise DataError(
                f"field {name!r}: shapes of one batch differ beyond the first: {shapes}"
            )
        lengths = [len(array) for array in arrays]
        dtype = np.result_type(*arrays)
        padded = np.full(
            (len(arrays), max(lengths), *arrays[0].shape[1:]), _PADDING[dtype.kind], dtype
        )
        for row, array in zip(padded, arrays, strict=True):
            row[: len(array)] = array
        batch[name] = padded
        batch[name + LENGTHS] = np.array(lengths, np.int64)
    return batch


def _check_lengths(lengths: Array, array: Array, name: str) -> None:
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        got = f"{lengths.dtype} of shape {lengths.shape}"
        raise TypeError(
            f"model.collect_feats gave {name + LENGTHS!r} as {got}, not a vector of integers"
        )
    longest = array.shape[1] if array.ndim > 1 else 0
    if not ((lengths >= 0) & (lengths <= longest)).all():
        raise TypeError(
            f"model.collect_feats gave {name!r} of shape {array.shape} and lengths from "
            f"{lengths.min()} to {lengths.max()}: frames would be padding, or not there at all"
        )


def _split(result: Any, n_items: int) -> list[dict[str, Array]]:
    """What a model gave for a batch, as one dict for each item."""
    if not isinstance(result, Mapping):
        raise TypeError(f"model.collect_feats gave {type(result).__name__}, not a dict of arrays")
    arrays: dict[str, Array] = {}
    for name, value in result.items():
        array = to_array(value)
        if array is None or array.ndim == 0 or len(array) != n_items:
            got = type(value).__name__ if array is None else f"shape {array.shape}"
            raise TypeError(
                f"model.collect_feats gave {name!r} as {got}; its first axis must be the "
                f"{n_items} items of the batch"
            )
        arrays[str(name)] = array
    items: list[dict[str, Array]] = [{} for _ in range(n_items)]
    for name, array in arrays.items():
        lengths = arrays.get(name + LENGTHS)
        if name.endswith(LENGTHS) and name.removesuffix(LENGTHS) in arrays:
            continue
        if lengths is not None:
            _check_lengths(lengths, array, name)
        for i, item in enumerate(items):
            item[name] = array[i][None] if lengths is None else array[i][: int(lengths[i])]
    return items
