"""The items that a run works on: any sequence of JSON values, most often integers."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from espnet3.errors import ConfigError

_DIGEST_CHUNK = 10_000


def as_items(indices: Iterable[Any]) -> Sequence[Any]:
    """Return `indices` as a sequence; a range stays a range, whatever its length."""
    if isinstance(indices, (range, list, tuple)):
        return indices
    to_list = getattr(indices, "tolist", None)  # numpy arrays and torch tensors
    return list(to_list() if callable(to_list) else indices)


def digest_items(items: Sequence[Any]) -> str:
    """A digest that tells one item list from another.

    A range costs O(1). A list of evenly spaced integers has the digest of the range that it
    equals, so `range(n)` and `list(range(n))` are one item list.

    Raises:
        ConfigError: if an item is not a JSON value; the message names its position.
    """
    as_range = items if isinstance(items, range) else _equal_range(items)
    if as_range is not None:
        step = as_range.step if len(as_range) > 1 else 1
        return f"range:{as_range.start if as_range else 0}:{len(as_range)}:{step}"
    digest = hashlib.sha256()
    iterator = iter(items)
    done = 0
    while chunk := list(islice(iterator, _DIGEST_CHUNK)):
        digest.update(_dump(chunk, done))
        done += len(chunk)
    return f"sha256:{digest.hexdigest()}"


def _equal_range(items: Sequence[Any]) -> range | None:
    if not items:
        return range(0)
    if type(items[0]) is not int:
        return None
    step = items[1] - items[0] if len(items) > 1 and type(items[1]) is int else 1
    if step == 0:
        return None
    candidate = range(items[0], items[0] + step * len(items), step)
    same = all(type(a) is int and a == b for a, b in zip(items, candidate, strict=True))
    return candidate if same else None


def _dump(chunk: list[Any], first: int) -> bytes:
    try:
        return json.dumps(chunk).encode()
    except (TypeError, ValueError):
        for offset, item in enumerate(chunk):
            try:
                json.dumps(item)
            except (TypeError, ValueError) as error:
                raise ConfigError(
                    f"item #{first + offset} of `indices` is a {type(item).__name__}; items must "
                    "be integers, strings or other JSON values, so that a later run can tell "
                    "whether it has the same items"
                ) from error
        raise
