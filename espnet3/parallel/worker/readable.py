"""Whether a dataset's items may be read by another thread than that of `forward`."""

import os
import sys
from typing import Any

from espnet3.parallel.engine.marker import READERS

OURS = ("espnet3", "egs3")
"""Packages whose datasets are known to bear it."""


def n_reading_threads(dataset: Any, prefetch: bool | None) -> int:
    """How many threads may read a dataset ahead; 0 if nothing is to be read ahead.

    Args:
        dataset: of the env; anything, or None.
        prefetch: of the `run:` block.
    """
    if prefetch is False or not (_has(dataset, "__getitem__") and _has(dataset, "__len__")):
        return 0
    safe = says_thread_safe(dataset)
    if not (safe or prefetch or is_ours(dataset)):
        return 0
    return min(READERS, len(os.sched_getaffinity(0))) if safe else 1


def says_thread_safe(dataset: Any) -> bool:
    """Whether the class that reads the items, or one made of it, says `thread_safe` of itself.

    A class that has a `__getitem__` of its own does not inherit the word of another.
    """
    inner = _inside(dataset)
    if inner is not None:
        return bool(inner) and all(map(says_thread_safe, inner))
    try:
        says_so = getattr(dataset, "thread_safe", False)
    except Exception:  # of a `__getattr__` that looks it up somewhere
        return False
    if not says_so:
        return False
    for cls in type(dataset).__mro__:
        if "thread_safe" in vars(cls):
            return True
        if "__getitem__" in vars(cls) or "__call__" in vars(cls):
            return "thread_safe" in getattr(dataset, "__dict__", ())
    return True


def is_ours(dataset: Any) -> bool:
    """Whether its items are read by code of ours alone, or by what says `thread_safe`."""
    inner = _inside(dataset)
    if inner is not None:
        return all(is_ours(part) or says_thread_safe(part) for part in inner)
    reads = next((cls for cls in type(dataset).__mro__ if "__getitem__" in vars(cls)), None)
    return reads is not None and is_module_of_ours(reads.__module__)


def is_part_of(owner: Any, dataset: Any) -> bool:
    """Whether something is a dataset, or one of those that this wraps."""
    if owner is dataset:
        return True
    return any(is_part_of(owner, part) for part in _inside(dataset) or ())


def is_module_of_ours(name: Any) -> bool:
    """Whether that is the name of one of our modules."""
    return isinstance(name, str) and name.partition(".")[0] in OURS


def _inside(dataset: Any) -> list[Any] | None:
    """What a wrapper of ours reads from and calls; None if it is no wrapper."""
    module = sys.modules.get("espnet3.components.data.dataset")
    if module is None:  # then nobody can have made one
        return None
    reads = getattr(type(dataset), "__getitem__", None)  # of a class of the user's, perhaps
    if reads is module.DatasetWithTransform.__getitem__:
        functions = (dataset.transform, dataset.preprocessor)
        return [dataset.dataset, *(function for function in functions if function is not None)]
    if reads is module.CombinedDataset.__getitem__:
        return list(dataset.datasets)
    return None


def _has(dataset: Any, name: str) -> bool:
    return callable(getattr(type(dataset), name, None))
