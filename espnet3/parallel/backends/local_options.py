"""Options of `env: local` and `local_gpu`: keywords of Dask's LocalCluster, and which are ours."""

import inspect
from collections.abc import Mapping
from typing import Any

from espnet3.parallel.config_check import REPLACED, UNDER_OPTIONS
from espnet3.parallel.wording import nearest

_ONE_LEASE = (
    "a worker does one item at a time; for more, raise parallel.n_workers, and for the threads "
    "inside one item set OMP_NUM_THREADS"
)
_NO_VALUE = object()
_OURS: dict[str, tuple[Any, str]] = {
    "n_workers": (_NO_VALUE, "set parallel.n_workers instead"),
    "processes": (True, "workers are processes here, so that one cannot take the driver with it"),
    "threads_per_worker": (1, _ONE_LEASE),
    "nthreads": (1, _ONE_LEASE),
    "asynchronous": (False, "the driver is synchronous"),
    "start": (_NO_VALUE, "the driver starts the cluster itself"),
    "loop": (_NO_VALUE, "the driver owns the event loop"),
    "worker_class": (_NO_VALUE, "the driver chooses the class of its workers"),
    "security": (_NO_VALUE, "set parallel.security instead"),
    "protocol": (_NO_VALUE, "parallel.security decides it"),
}
"""Options that the engine sets itself: the one value that changes nothing, and why no other."""


def option_problems(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options of a LocalCluster, one sentence each."""
    valid = _valid()
    problems = []
    for key, value in options.items():
        name = f"parallel.options.{key}"
        if key in _OURS:
            allowed, reason = _OURS[key]
            if type(value) is not type(allowed) or value != allowed:
                problems.append(f"{name}: {reason}")
        elif key in valid:
            continue
        elif key in REPLACED and REPLACED[key] is not UNDER_OPTIONS:
            problems.append(f"{name}: no such option; {REPLACED[key]}")
        else:
            problems.append(
                f"{name}: LocalCluster has no such option; {nearest(key, [*valid, *_OURS])}"
            )
    return problems


def _valid() -> set[str]:
    from distributed import LocalCluster, Nanny, Worker

    names: set[str] = set()
    for cls in (LocalCluster, Nanny, Worker):
        for name, parameter in inspect.signature(cls).parameters.items():
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                names.add(name)
    # LocalCluster gives these to its workers itself.
    return names - {"scheduler_ip", "scheduler_file", "nanny"} - set(_OURS)
