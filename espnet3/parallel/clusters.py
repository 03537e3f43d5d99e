"""Making Dask clusters with settings that fit leases, and sharing one in a session."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from espnet3.errors import ConfigError
from espnet3.parallel.backends import local
from espnet3.parallel.config import ParallelConfig

logger = logging.getLogger(__name__)

DASK_SETTINGS: dict[str, Any] = {
    # Dask never moves a task to another worker: the engine deals a lost lease again.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.work-stealing": False,
    # C code that holds the GIL for minutes is no dead worker.
    "distributed.scheduler.worker-ttl": None,
    # A daemonic process may have no children, but DataLoader workers are some.
    "distributed.worker.daemon": False,
    "distributed.worker.preload": ["espnet3.parallel.worker.preload"],
    "distributed.worker.profile.enabled": False,
    # Whoever can reach a web server could see what runs.
    "distributed.http.routes": [],
}


def start_cluster(config: ParallelConfig) -> Any:
    """Start the cluster that `config` describes.

    Returns:
        A running `distributed.deploy.Cluster`; whoever asked for it closes it.

    Raises:
        ConfigError: if the backend is not built yet.
    """
    import dask
    import distributed  # noqa: F401  (loads its defaults, which ours are laid over)

    if config.env != "local":
        raise ConfigError(f"env: {config.env} is not built yet in this version (only local)")
    # What Dask says at start, at shutdown and about deaths, the engine says in its own words.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    # BLAS and OpenMP read these when a process loads them, so they must be there before it starts.
    settings = {
        **DASK_SETTINGS,
        "distributed.nanny.pre-spawn-environ": {
            **local.worker_environment(config.n_workers),
            "DASK_LOGGING__DISTRIBUTED": "critical",
        },
    }
    # All of them are read while the cluster starts; replaced workers get copies.
    with dask.config.set(settings), _unchanged_environ():
        cluster = local.make_cluster(config)
    logger.info("%d local workers are up", config.n_workers)
    return cluster


@contextmanager
def open_cluster(config: ParallelConfig) -> Iterator[Any]:
    """A cluster for the length of a `with` block."""
    cluster = start_cluster(config)
    try:
        yield cluster
    finally:
        cluster.close()


class Session:
    """Keeps the cluster of the last config, so that calls inside it share the workers."""

    def __init__(self) -> None:
        self._config: ParallelConfig | None = None
        self._cluster: Any = None

    def cluster(self, config: ParallelConfig) -> Any:
        """The running cluster for `config`; one for another config is closed first."""
        if self._config != config:
            self.close()
            self._cluster = start_cluster(config)
            self._config = config
        return self._cluster

    def close(self) -> None:
        """Close the cluster, if there is one."""
        if self._cluster is not None:
            cluster, self._cluster, self._config = self._cluster, None, None
            cluster.close()


@contextmanager
def _unchanged_environ() -> Iterator[None]:
    """Dask sets the variables of its workers in this process, where they do not belong."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
