"""Making Dask clusters with settings that fit leases, and sharing one in a session."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from espnet3.errors import ConfigError, RunStopped
from espnet3.parallel.backends import batch, jobqueue, local
from espnet3.parallel.backends.modules import BACKENDS
from espnet3.parallel.backends.open_files import allow_open_files
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.config_check import ENVS, LOCAL
from espnet3.parallel.dask_log import dask_log, silence, worker_environment
from espnet3.parallel.main_guard import UNGUARDED, check_is_no_import, explanation
from espnet3.parallel.signals import deferred
from espnet3.parallel.wording import nearest
from espnet3.parallel.worker.settings import WORKER_SETTINGS

logger = logging.getLogger(__name__)

_starting = threading.Lock()

DASK_SETTINGS: dict[str, Any] = {
    # Dask never moves a task to another worker: the engine deals a lost lease again.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.work-stealing": False,
    # C code that holds the GIL for minutes is no dead worker.
    "distributed.scheduler.worker-ttl": None,
    **WORKER_SETTINGS,
}

LASTING_SETTINGS = {
    # Dask gives up a worker for good if its name is missing 15 s after a death, a later one's
    # restart included: it cancels the job, a queued one too. It reads this at each death, so it
    # must stay set.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}


def start_cluster(config: ParallelConfig, logs: Path | None = None) -> Any:
    """Start the cluster that `config` describes.

    Args:
        config: where the workers run.
        logs: where local workers write what Dask says, and where a batch scheduler puts the logs
            of jobs, unless `options` say it.

    Returns:
        A running `distributed.deploy.Cluster`; whoever asked for it closes it. A cluster of batch
        jobs may have no worker yet.

    Raises:
        ConfigError: if there is no such backend, its options are wrong, jobs cannot be
            submitted from here, the program cannot be imported by workers, or there are more
            workers than this process may have connections to.
        RunStopped: if the workers could not start, or their jobs are refused.
    """
    cluster = None
    check_is_no_import()
    try:
        with deferred("when the workers are up"):
            cluster = _start(config, logs)
    except BaseException:
        if cluster is not None:  # this process is asked to end, and nobody else knows the cluster
            close_cluster(cluster)
        raise
    return cluster


def close_cluster(cluster: Any) -> None:
    """Close a cluster, whatever asks this process to end meanwhile; a second Ctrl-C ends it."""
    watch = getattr(cluster, "watch", None)  # of batch jobs
    with (
        deferred("when the workers have left") as interruption,
        interruption.ended_at_once([] if watch is None else [watch.cancel_all]),
    ):
        cluster.close()


def _start(config: ParallelConfig, logs: Path | None) -> Any:
    import dask
    import distributed  # noqa: F401  (loads its defaults, which ours are laid over)

    if config.env not in ENVS:
        raise ConfigError(f"unknown env {config.env!r}; {nearest(config.env, ENVS)}")
    if not config.secure:
        logger.warning(
            "security: false: connections to workers are neither encrypted nor authenticated; "
            "whoever reaches their ports, other users of these hosts included, can run code as you"
        )
    allow_open_files(config.env, config.n_workers)
    dask.config.set(LASTING_SETTINGS)
    silence()
    if config.env in LOCAL:
        return _start_local(config, logs)
    make_cluster: Callable[[ParallelConfig, Path], Any] = batch.make_cluster
    if config.env in BACKENDS:
        make_cluster = BACKENDS[config.env].checked(config.options).make_cluster
    else:
        jobqueue.cluster_class(config.env)  # loads its defaults, too
    with _starting, dask.config.set(DASK_SETTINGS), _without_terminal():
        return make_cluster(config, logs or Path("logs").absolute())


def _start_local(config: ParallelConfig, logs: Path | None) -> Any:
    import dask

    # BLAS and OpenMP read these when a process loads them, so they must be there before it starts.
    settings = {
        **DASK_SETTINGS,
        "distributed.nanny.pre-spawn-environ": {
            **local.worker_environment(config.n_workers),
            **worker_environment(logs),
        },
    }
    # All of them are read while the cluster starts; replaced workers get copies.
    _check_main_module()
    try:
        # Settings and environment are the process's: two threads must not change them at once.
        with _starting, dask.config.set(settings), _without_terminal():
            cluster = local.make_cluster(config)
    except RuntimeError as error:  # all that Dask says: "Nanny failed to start."
        if getattr(error.__cause__, "status", None) == UNGUARDED:
            raise ConfigError(explanation()) from None
        raise RunStopped(f"the worker processes could not start: {error.__cause__ or error}") from (
            error if logger.isEnabledFor(logging.DEBUG) else None
        )
    logger.info("%d local workers are up", config.n_workers)
    return cluster


@contextmanager
def open_cluster(config: ParallelConfig, logs: Path | None = None) -> Iterator[Any]:
    """A cluster for the length of a `with` block."""
    cluster = start_cluster(config, logs)
    try:
        yield cluster
    finally:
        close_cluster(cluster)


class Session:
    """Keeps clusters, so that calls inside it share the workers.

    There is one for each config that was asked for. When another one is asked for, those that
    nobody uses at that moment are closed first, as they hold memory or queue places.
    """

    def __init__(self) -> None:
        self._open: list[tuple[ParallelConfig, Any]] = []
        self._users: list[ParallelConfig] = []
        self._logs: Path | None = None
        """Of the last who has used one."""
        self._guard = threading.RLock()

    @contextmanager
    def use(self, config: ParallelConfig, logs: Path | None = None) -> Iterator[Any]:
        """The running cluster for `config`, which stays open at least for this `with` block.

        The logs of its jobs are where the first user wanted them.
        """
        with self._guard:  # another thread may be asking too
            self._users.append(config)
            self._logs = logs or self._logs
        try:
            with self._guard:
                cluster = self._find(config) or self._start(config, logs)
            yield cluster
        finally:
            with self._guard:
                self._users.remove(config)

    def close(self) -> None:
        """Close all clusters."""
        with deferred("when the workers have left"), dask_log(self._logs):
            while self._open:
                close_cluster(self._open.pop()[1])

    def _find(self, config: ParallelConfig) -> Any:
        return next((cluster for known, cluster in self._open if known == config), None)

    def _start(self, config: ParallelConfig, logs: Path | None) -> Any:
        for known, cluster in list(self._open):
            if known not in self._users:
                self._open.remove((known, cluster))
                close_cluster(cluster)
        cluster = start_cluster(config, logs)
        self._open.append((config, cluster))
        return cluster


def _check_main_module() -> None:
    """Worker processes import the program's main file first; see that they can.

    Raises:
        ConfigError: if they cannot.
    """
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if path is not None and not os.path.exists(path):
        raise ConfigError(
            f"worker processes cannot import the program {path}; write it into a file, or use one "
            "worker"
        )


@contextmanager
def _without_terminal() -> Iterator[None]:
    """Block SIGINT and SIGHUP for what is started meanwhile (threads, processes), all its life.

    The terminal sends them to the whole process group (Ctrl-C; when it is closed), but only the
    driver is to answer them. Here they come when the block ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        _start_resource_tracker()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_resource_tracker() -> None:
    """Let multiprocessing start the process that it has for cleaning up.

    Whichever thread does that lets SIGINT through again, for itself and for all processes that it
    starts later; so it must not be the cluster's. If this process is killed, the tracker removes
    what it left, semaphores of Dask's, and would warn of them: noise where nothing is wrong.
    """
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()
