"""Copies of results, to be written when their owner may have changed them again."""

from __future__ import annotations

from typing import Any

import numpy as np

from espnet3.errors import RecordRejected
from espnet3.utils.artifacts import as_array, is_tensor

_UNCHANGEABLE = frozenset({str, int, float, bool, bytes, type(None)})
_DEEPEST = 8  # containers inside of each other


class NotSetAside(Exception):
    """Nobody knows how to copy a value so that the same would be written of it."""


def set_aside(value: Any, depth: int = 0) -> Any:
    """Return a copy of a value that shares nothing with it that can change.

    Args:
        value: Numbers and texts, arrays, CPU tensors (arrays in the copy), and lists, tuples and
            dicts of these. Files of any type but pickles are the same, to the byte, for the copy.
        depth: How many containers are around it.

    Raises:
        NotSetAside: It is something else.
    """
    kind = type(value)
    if kind in _UNCHANGEABLE:
        return value
    if kind is np.ndarray:
        return _copy_of(value)
    if isinstance(value, np.generic) and not isinstance(value, np.void):
        return value
    if depth < _DEEPEST:
        if kind is dict:
            return {set_aside(k, _DEEPEST): set_aside(v, depth + 1) for k, v in value.items()}
        if kind is list or kind is tuple:
            return kind(set_aside(entry, depth + 1) for entry in value)
    if is_tensor(value):
        try:
            return _copy_of(as_array(value, ""))
        except RecordRejected as error:  # whoever writes it says so with its place
            raise NotSetAside from error
    raise NotSetAside


def _copy_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # What lies between the fields of a structure is written to a file, but not copied.
    if array.dtype.hasobject or array.dtype.names is not None:
        raise NotSetAside
    # A .npy file tells which of the two it is.
    by_columns = array.flags.f_contiguous and not array.flags.c_contiguous
    return array.copy(order="F" if by_columns else "C")
