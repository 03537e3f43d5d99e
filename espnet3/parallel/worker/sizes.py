"""About how much memory an item of a dataset takes."""

from array import array
from contextlib import suppress
from types import MemberDescriptorType
from typing import Any

OTHER = 64  # bytes that anything else counts as
DEEPEST = 4  # containers inside of each other that are looked into
MOST_LOOKED_AT = 1000  # entries of one container; the others count as these do


def n_bytes_of(item: Any) -> int:
    """Bytes of the arrays, tensors and texts in an item; what else there may be counts little."""
    with suppress(Exception):  # an object may be of any kind
        return _n_bytes(item, 0)
    return OTHER


def _n_bytes(item: Any, depth: int) -> int:
    n_bytes = getattr(item, "nbytes", None)  # of NumPy arrays and torch tensors
    if type(n_bytes) is int:
        return n_bytes
    if isinstance(item, bytes | bytearray | str):
        return len(item)
    if isinstance(item, array):
        return len(item) * item.itemsize
    if depth >= DEEPEST:
        return OTHER
    if isinstance(item, dict):  # another mapping may read a file when it is asked
        return _of_some(list(item.values()), depth)
    if isinstance(item, list | tuple | set | frozenset):
        return _of_some(item, depth)
    attributes = _attributes(item)
    return _of_some(attributes, depth) if attributes else OTHER


def _attributes(item: Any) -> list[Any]:
    """What an object has, in slots or not; nothing is worked out for it."""
    own = getattr(item, "__dict__", None)
    found = list(own.values()) if type(own) is dict else []
    for cls in type(item).__mro__:
        for slot in vars(cls).values():
            if isinstance(slot, MemberDescriptorType):
                with suppress(AttributeError):  # nothing is in it
                    found.append(slot.__get__(item))
    return found


def _of_some(entries: Any, depth: int) -> int:
    n_entries = len(entries)
    some = list(entries)[:MOST_LOOKED_AT]
    n_bytes = sum(_n_bytes(entry, depth + 1) for entry in some)
    return OTHER + n_bytes * max(1, n_entries) // max(1, len(some))
