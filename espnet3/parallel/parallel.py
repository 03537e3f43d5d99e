"""Where runners run: the process-wide setting, sessions, Dask clients, and plain parallel maps."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from espnet3.errors import ConfigError
from espnet3.parallel.config import ParallelConfig, RunConfig, parse_parallel

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client
    from omegaconf import DictConfig

    from espnet3.parallel.clusters import Session
    from espnet3.parallel.worker_env import DictReturnWorkerPlugin, wrap_func_with_worker_env

__all__ = [
    "DictReturnWorkerPlugin",
    "build_client",
    "get_client",
    "get_parallel_config",
    "get_settings",
    "in_session",
    "parallel_for",
    "parallel_map",
    "parallel_session",
    "reset_parallel",
    "run_settings",
    "set_parallel",
    "shared_cluster",
    "wrap_func_with_worker_env",
]

logger = logging.getLogger(__name__)

_NEED_DASK = ("DictReturnWorkerPlugin", "wrap_func_with_worker_env")

_lock = threading.RLock()
_settings: tuple[ParallelConfig, RunConfig] | None = None
_session: "Session | None" = None


def __getattr__(name: str) -> Any:
    # Importing Dask takes half a second, which those pay who use it.
    if name in _NEED_DASK:
        from espnet3.parallel import worker_env

        return getattr(worker_env, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def set_parallel(config: Any, run: Any = None, source: str = "parallel config") -> None:
    """Say where (and how) runners run from now on in this process.

    Args:
        config: a `parallel:` block: a mapping, a `DictConfig`, or a `ParallelConfig`. It is copied.
            None keeps what was set before; if nothing was, it is one process on this machine.
        run: a `run:` block. Its keys may also stand in `config`.
        source: where the blocks come from, for error messages.

    Raises:
        ConfigError: with everything that is wrong in the two blocks; nothing was changed.
    """
    global _settings
    with _lock:
        if config is None and _settings is not None:
            if run is not None:
                _settings = (_settings[0], parse_parallel(None, run, source)[1])
            return
        _settings = parse_parallel(config, run, source)


def reset_parallel() -> None:
    """Forget what `set_parallel` was told."""
    global _settings
    with _lock:
        _settings = None


def get_parallel_config() -> "DictConfig | None":
    """The `parallel:` block in force, as a new `DictConfig`; None if none was set."""
    if _settings is None:
        return None
    from omegaconf import OmegaConf

    parallel = _settings[0]
    block = {
        "env": parallel.env,
        "n_workers": parallel.n_workers,
        "options": dict(parallel.options),
        "worker_start_timeout": parallel.worker_start_timeout,
        "security": parallel.security,
    }
    return OmegaConf.create({key: value for key, value in block.items() if value is not None})


def get_settings() -> tuple[ParallelConfig, RunConfig]:
    """The settings in force, with defaults where nothing was set."""
    return _settings or (ParallelConfig(), RunConfig())


@contextmanager
def parallel_session(config: Any = None, run: Any = None) -> Iterator[None]:
    """Let everything inside share one cluster, which is closed at the end.

    The cluster starts when it is first needed. A session inside another one shares the outer one's
    cluster as long as both want the same. Settings are put back at the end.

    Args:
        config: a `parallel:` block for the session; None keeps what is set.
        run: a `run:` block for the session; None keeps what is set. Without `config` it is laid
            over what is set, so that one step of many may have a key of its own.
    """
    global _session, _settings
    from espnet3.parallel.clusters import Session
    from espnet3.parallel.worker.env import drop_env

    before = _settings
    owner = _session is None
    try:
        if config is not None or run is not None:
            set_parallel(config, _over_what_is_set(run) if config is None else run)
        if _session is None:
            _session = Session()
        yield
    finally:
        _settings = before
        if owner and _session is not None:
            session, _session = _session, None
            session.close()
            drop_env()


def _over_what_is_set(run: Any) -> Any:
    if _settings is None or not isinstance(run, Mapping):
        return run
    return {**asdict(_settings[1]), **run}


@contextmanager
def run_settings(**keys: Any) -> Iterator[None]:
    """Lay keys over the `run:` block that is set, for the length of a `with` block.

    Unlike in a session, clusters and what was built are those of whoever calls.

    Args:
        **keys: of a `RunConfig`; not checked.
    """
    global _settings
    before = _settings
    parallel, run = get_settings()
    _settings = parallel, replace(run, **keys)
    try:
        yield
    finally:
        _settings = before


def in_session() -> bool:
    """Whether a session is open, so that what was built may be needed again soon."""
    return _session is not None


@contextmanager
def shared_cluster(config: ParallelConfig, logs: "Path | None" = None) -> Iterator[Any]:
    """The session's cluster for `config`, or one of its own outside any session.

    Args:
        config: where the workers run.
        logs: where it is written what Dask says, and the logs of batch jobs if the cluster is
            started here.
    """
    from espnet3.parallel.clusters import open_cluster
    from espnet3.parallel.dask_log import dask_log

    started = open_cluster(config, logs) if _session is None else _session.use(config, logs)
    with dask_log(logs), started as cluster:
        yield cluster


def build_client(config: Any = None) -> "Client":
    """Start a cluster and give a Dask client of it.

    Whoever calls closes the client, then `client.cluster`; `get_client` does both by itself.

    Args:
        config: a `parallel:` block, which is then set as `set_parallel` does; None for what is set.

    Raises:
        ConfigError: if the block is wrong, or None was given and nothing is set.
    """
    from distributed import Client

    from espnet3.parallel.clusters import start_cluster

    return Client(start_cluster(_asked_for(config)))


@contextmanager
def get_client(
    config: Any = None, setup_fn: Callable[[], dict[str, Any]] | None = None
) -> "Iterator[Client]":
    """A Dask client for the length of a `with` block; client and cluster are closed at its end.

    Inside a session the cluster is the session's, and stays.

    Args:
        config: as for `build_client`.
        setup_fn: builds an env in each worker process, before its first task. Functions wrapped by
            `wrap_func_with_worker_env` get it.
    """
    from distributed import Client

    from espnet3.parallel.mapping import env_on_workers

    with (
        shared_cluster(_asked_for(config)) as cluster,
        Client(cluster) as client,
        env_on_workers(client, setup_fn),
    ):
        yield client


def _asked_for(config: Any) -> ParallelConfig:
    if config is not None:
        set_parallel(config)
    elif _settings is None:
        raise ConfigError("nothing says where to run: call set_parallel first, or give a config")
    return get_settings()[0]


def parallel_map(
    func: Callable[..., Any],
    data: Any,
    client: "Client | None" = None,
    setup_fn: Callable[[], dict[str, Any]] | None = None,
) -> list[Any]:
    """Call `func` on every element; results in order. For small things that need no run directory.

    Nothing is kept on disk and nothing is retried: the first exception ends the call. For a corpus,
    write a runner.

    Args:
        func: called with one element and what it names of the env.
        data: the elements.
        client: a client that is open already; None to use what `set_parallel` says.
        setup_fn: builds the env in each worker process, such as a provider's
            `build_worker_setup_fn()`.
    """
    elements = list(data)
    results: list[Any] = [None] * len(elements)
    for index, result in _indexed(func, elements, client, setup_fn):
        results[index] = result
    return results


def parallel_for(
    func: Callable[..., Any],
    data: Any,
    client: "Client | None" = None,
    setup_fn: Callable[[], dict[str, Any]] | None = None,
) -> Iterator[Any]:
    """Like `parallel_map`, but results come as they are completed, in any order."""
    for _, result in _indexed(func, list(data), client, setup_fn):
        yield result


def _indexed(
    func: Callable[..., Any],
    elements: list[Any],
    client: "Client | None",
    setup_fn: Callable[[], dict[str, Any]] | None,
) -> Iterator[tuple[int, Any]]:
    from espnet3.parallel.main_guard import check_is_no_import
    from espnet3.parallel.mapping import map_here, map_on_client

    check_is_no_import()
    if client is not None:
        yield from map_on_client(func, elements, client, setup_fn)
        return
    parallel = get_settings()[0]
    if parallel.env == "local" and parallel.n_workers == 1:
        yield from map_here(func, elements, setup_fn)
        return
    with get_client() as own:
        yield from map_on_client(func, elements, own, setup_fn)
