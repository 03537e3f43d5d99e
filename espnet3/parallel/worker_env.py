"""Envs for plain Dask tasks: built once in a worker process, injected into functions by name."""

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from espnet3.errors import EnvBuildError
from espnet3.parallel.engine.report import text_of
from espnet3.parallel.env_provider import check_env
from espnet3.parallel.modules_by_path import Carried

_guard = threading.Lock()


class DictReturnWorkerPlugin(WorkerPlugin):
    """A Dask worker plugin that builds an env when a worker's first task needs it.

    It is built in the task's thread, not when the worker starts: Dask would leave a worker without
    env at work after a failure there, and would not say so.

    Args:
        setup_fn: builds the env; called once in each worker process.
    """

    name = "env"

    def __init__(self, setup_fn: Callable[[], dict[str, Any]]) -> None:
        self._setup_fn = Carried(setup_fn)
        self._env: dict[str, Any] | None = None

    def setup(self, worker: Worker) -> None:
        """Called by Dask in each worker, also in those that join later."""

    def teardown(self, worker: Worker) -> None:
        """Called by Dask when the worker closes."""

    def env(self) -> dict[str, Any]:
        """The env of this process.

        Raises:
            EnvBuildError: from the setup function's own exception, for every task.
        """
        with _guard:
            if self._env is None:
                try:
                    self._env = check_env(self._setup_fn.value(), "setup_fn")
                except Exception as error:
                    raise EnvBuildError(
                        f"the env could not be built in a worker: {type(error).__name__}: "
                        f"{text_of(error)}"
                    ) from error
            return self._env


def wrap_func_with_worker_env(func: Callable[..., Any]) -> Callable[..., Any]:
    """Let `func` take parameters from the env of the worker that it runs in.

    Parameters that the caller passes come from the caller, the others from the env, by name (all
    of it if `func` takes `**kwargs`). Outside a worker, or in one without env, nothing is injected.

    Returns:
        A function to submit to a client whose workers have a `DictReturnWorkerPlugin`.

    Raises:
        ValueError: when called with a keyword that the env has too.
    """
    parameters = inspect.signature(func).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [p.name for p in parameters.values() if p.kind is not p.VAR_KEYWORD]

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        env = current_env()
        twice = [key for key in kwargs if key in env and (takes_all or key in names)]
        if twice:
            raise ValueError(
                f"{func.__name__} was given {', '.join(sorted(twice))} by the caller and by the "
                "worker's env; rename one of them"
            )
        given = set(names[: len(args)]) | kwargs.keys()
        injected = {
            key: value
            for key, value in env.items()
            if key not in given and (takes_all or key in names)
        }
        return func(*args, **kwargs, **injected)

    return wrapped


def current_env() -> dict[str, Any]:
    """The env of the worker that this task runs in; {} if there is none."""
    try:
        plugin = get_worker().plugins.get("env")
    except ValueError:  # not in a worker
        return {}
    return plugin.env() if isinstance(plugin, DictReturnWorkerPlugin) else {}
