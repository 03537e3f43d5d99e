"""The dataset that `forward` is given: the real one in all but how its items come."""

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from espnet3.parallel.worker.job import Job
from espnet3.parallel.worker.loading_ahead import LoadingAhead
from espnet3.parallel.worker.readable import (
    is_module_of_ours,
    is_ours,
    is_part_of,
    n_reading_threads,
)

_READING = {"__getitems__", "__call__", "__contains__", "__next__"}
"""Special methods that may well read items."""
_OWN = {
    "__class__", "__copy__", "__deepcopy__", "__del__", "__delattr__", "__dict__", "__dir__",
    "__doc__", "__getattr__", "__getattribute__", "__getitem__", "__getstate__", "__init__",
    "__init_subclass__", "__module__", "__new__", "__reduce__", "__reduce_ex__", "__setattr__",
    "__setstate__", "__slots__", "__subclasshook__", "__weakref__", "__class_getitem__",
    "__annotations__", "__abstractmethods__", "__parameters__", "__orig_bases__", "__sizeof__",
}  # fmt: skip
"""Special names that are not handed on: what makes an object, and what is different here."""


class StandIn:
    """Stands for a dataset: it has its attributes and items, and `isinstance` finds its class.

    `type()` tells the difference. A copy, or what is pickled, is of the dataset itself.
    """

    __slots__ = ("__weakref__", "_espnet3_ahead")

    def __init__(self, ahead: LoadingAhead) -> None:
        object.__setattr__(self, "_espnet3_ahead", ahead)

    def __getitem__(self, index: Any) -> Any:
        ahead = _ahead(self)
        # Only a plain index can be one of the runner's; what others mean is the dataset's to say.
        if type(index) is int:
            return ahead.take(index)
        with ahead.in_turn():
            return ahead.dataset[index]

    def __getattr__(self, name: str) -> Any:
        ahead = _ahead(self)
        value = getattr(ahead.dataset, name)
        return InTurn(ahead, value) if _may_read_items(ahead, value) else value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_ahead(self).dataset, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_ahead(self).dataset, name)

    def __dir__(self) -> list[str]:
        return dir(_ahead(self).dataset)

    def __copy__(self) -> Any:
        return copy.copy(_ahead(self).dataset)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(_ahead(self).dataset, memo)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _itself, (_ahead(self).dataset,)


class InTurn:
    """A method of the dataset that is called while nobody else reads that; pickled as itself."""

    __slots__ = ("_ahead", "_method")

    def __init__(self, ahead: LoadingAhead, method: Any) -> None:
        self._ahead = ahead
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._ahead.in_turn_soon():
            return self._method(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._method,)


def with_stand_in(env: Mapping[str, Any], job: Job) -> tuple[dict[str, Any], LoadingAhead | None]:
    """The env with a stand-in for its dataset, and what reads ahead; as it is if nothing may.

    Args:
        env: what the provider built.
        job: the run.
    """
    dataset = env.get("dataset")
    n_threads = n_reading_threads(dataset, job.prefetch)
    if not n_threads:
        return dict(env), None
    ahead = LoadingAhead(dataset, job.plan, n_threads)
    return {**env, "dataset": stand_in_for(ahead)}, ahead


def stand_in_for(ahead: LoadingAhead) -> Any:
    """An object that behaves as the dataset of `ahead`."""
    return _class_for(type(ahead.dataset))(ahead)


def _class_for(cls: Any) -> type[StandIn]:
    """Python looks special methods up in the class: it has those that the dataset's class has."""
    special = {
        name: _hand_on(name)
        for name in dir(cls)
        if name.startswith("__")
        and name.endswith("__")
        and name not in _OWN
        and getattr(cls, name) is not getattr(object, name, None)
        and callable(getattr(cls, name))
    }
    if getattr(cls, "__hash__", None) is None:
        special["__hash__"] = None  # type: ignore[assignment]
    reported = property(lambda self: type(_ahead(self).dataset))
    return type(cls.__name__, (StandIn,), {"__slots__": (), **special, "__class__": reported})


def _hand_on(name: str) -> Callable[..., Any]:
    def method(self: StandIn, *args: Any, **kwargs: Any) -> Any:
        ahead = _ahead(self)
        with ahead.in_turn_soon() if name in _READING else nullcontext():
            return getattr(type(ahead.dataset), name)(ahead.dataset, *args, **kwargs)

    method.__name__ = name
    return method


def _ahead(stand_in: StandIn) -> LoadingAhead:
    ahead: LoadingAhead = object.__getattribute__(stand_in, "_espnet3_ahead")
    return ahead


def _may_read_items(ahead: LoadingAhead, value: Any) -> bool:
    """Whether it is a method of the dataset, which may ask that for items behind our back.

    Those of our own datasets do not, and nobody is to wait for a name.
    """
    owner = getattr(value, "__self__", None)
    if owner is None or not callable(value) or not is_part_of(owner, ahead.dataset):
        return False
    return not (is_module_of_ours(getattr(value, "__module__", None)) and is_ours(owner))


def _itself(dataset: Any) -> Any:
    return dataset
