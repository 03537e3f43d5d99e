"""The dataset that `forward` is given: the real one in all but how its items come."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from espnet3.parallel.worker.job import Job
from espnet3.parallel.worker.loading_ahead import LoadingAhead
from espnet3.parallel.worker.readable import n_reading_threads

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
        value = getattr(_ahead(self).dataset, name)
        return _in_turn(_ahead(self), value) if name == "__getitems__" else value

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
        dataset = _ahead(self).dataset
        return getattr(type(dataset), name)(dataset, *args, **kwargs)

    method.__name__ = name
    return method


def _ahead(stand_in: StandIn) -> LoadingAhead:
    ahead: LoadingAhead = object.__getattribute__(stand_in, "_espnet3_ahead")
    return ahead


def _in_turn(ahead: LoadingAhead, function: Any) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with ahead.in_turn():
            return function(*args, **kwargs)

    return call


def _itself(dataset: Any) -> Any:
    return dataset
