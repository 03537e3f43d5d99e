"""Copies of results, to be written when their owner may have changed them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from espnet3.errors import RecordRejected
from espnet3.utils.artifact_formats import ArtifactFormat
from espnet3.utils.artifacts import as_array, is_tensor

_UNCHANGEABLE = frozenset({str, int, float, bool, bytes, type(None)})
_ON_A_LINE = frozenset({str, int, float, bool})
_DEEPEST = 8  # containers inside of each other


class SetAside:
    """Sets the records of units aside.

    Args:
        idx_key: Key of the utterance id in a record.
        output_keys: The fields that are written; None for all that a record has.
        formats: How values of a field become files, where the config says so.
    """

    def __init__(
        self,
        idx_key: str,
        output_keys: Sequence[str] | None,
        formats: Mapping[str, ArtifactFormat],
    ) -> None:
        self._idx_key = idx_key
        self._output_keys = output_keys
        self._to_file = {name for name, how in formats.items() if how.takes_text}
        # Functions of the user's expect to be called from `forward`'s thread; a pickle tells which
        # parts of a value were one.
        self._may_be_behind = all(
            how.writer is None and how.type != "pickle" for how in formats.values()
        )

    def copy_of(self, result: Any) -> Any:
        """Return a copy of what is written of a unit's result, for another thread to write it.

        None if it is to be written here and now: as it is so little, as a function of the user's
        writes it, or as it has a value of a kind that nobody knows how to copy.
        """
        if type(result) is dict and self._are_lines(result):
            return None  # the common case
        if not self._may_be_behind:
            return None
        records = result if isinstance(result, (list, tuple)) else [result]
        try:
            if not any(map(self._has_files, records)):
                return None
            return [self._copy_of_record(record) for record in records]
        except Exception:  # what is wrong, or too large, is told where it is written at once
            return None

    def _has_files(self, output: Any) -> bool:
        """Whether anything beside lines is written of a record."""
        if type(output) is not dict or self._are_lines(output):
            return False
        names = self._output_keys or output
        return any(
            name in self._to_file or not _is_on_a_line(output[name])
            for name in names
            if name in output
        )

    def _are_lines(self, output: dict[Any, Any]) -> bool:
        """Whether that can be said of a record at first sight."""
        return not self._to_file and _ON_A_LINE.issuperset(map(type, output.values()))

    def _copy_of_record(self, output: Any) -> dict[Any, Any]:
        """Return a record with all its fields, of which those are None that are not written."""
        if type(output) is not dict:
            raise NotSetAside
        names, idx_key = self._output_keys, self._idx_key
        return {
            name: set_aside(value) if names is None or name in names or name == idx_key else None
            for name, value in output.items()
        }


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


def _is_on_a_line(value: Any) -> bool:
    """Whether a value has no file of its own; nothing has that is refused anyway."""
    if type(value) in _ON_A_LINE or value is None or isinstance(value, np.generic):
        return True
    return getattr(value, "shape", None) == ()
