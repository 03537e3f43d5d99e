"""Leases on a Dask cluster: every worker runs one long task that pulls them from the driver.

Pulling costs the driver a fraction of what a Dask task for each lease costs, and Dask's own
retrying and moving of tasks has nothing to act on.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from espnet3.errors import ConfigError
from espnet3.parallel import modules_by_path
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.engine.files import LOGS
from espnet3.parallel.engine.run import Run
from espnet3.parallel.executors.driver import Driver
from espnet3.parallel.executors.hub import Hub, Interrupted
from espnet3.parallel.executors.worker_state import Worker
from espnet3.parallel.parallel import shared_cluster
from espnet3.parallel.signals import Interruption, deferred
from espnet3.parallel.worker.job import Job

SEE_OFF = 2.0  # seconds that idle workers have to end their task


def run_on_cluster(
    run: Run,
    job: Job,
    items: Sequence[Any],
    setup: Callable[[], dict[str, Any]],
    parallel: ParallelConfig,
    interruption: Interruption,
) -> None:
    """Do all leases of a run on the workers of `parallel`; a signal ends it after those in hand.

    Raises:
        ConfigError: if the provider cannot be sent to workers, or its env does not fit the runner.
        EnvBuildError: naming the provider, the first worker that failed, and the cause.
        RunStopped: if no worker comes, or none stays.
    """
    from distributed import Client

    try:
        blob = modules_by_path.dumps((job, setup))
    except Exception as error:
        raise ConfigError(
            f"{job.provider} or {job.runner.__name__} cannot be sent to workers ({error}); what "
            "build_worker_setup_fn() returns may capture a config, but no lock, file or model"
        ) from error
    ending: list[Callable[[], None]] = []
    with (
        deferred("when the workers have left"),
        interruption.ended_at_once(ending),
        shared_cluster(parallel, job.run_dir / LOGS) as cluster,
        Client(cluster) as client,
    ):
        hub = Hub(cluster.scheduler, job.token)
        hub.install()
        watch = getattr(cluster, "watch", None)  # of batch jobs
        driver = Driver(
            run, job, items, client, hub, blob, interruption, watch, parallel.worker_start_timeout
        )
        driver.gpu_blame.is_shared = parallel.workers_per_gpu > 1
        ending.append(driver.kill_workers if watch is None else watch.cancel_all)
        try:
            with (
                interruption.ended_at_once(ending),  # before anything is closed
                interruption.answered(lambda: hub.inbox.put(Interrupted())),
            ):
                driver.work()
        finally:
            driver.drain()
            hub.remove()
            _see_off(driver.workers.values())
            driver.remove_markers()


def _see_off(workers: Iterable[Worker]) -> None:
    """Let the tasks of idle workers end: Dask is loud about those that its own end cuts off."""
    from distributed import wait

    tasks = [worker.task for worker in workers if worker.lease is None and not worker.useless]
    with suppress(Exception):  # it may be the scheduler that is gone
        wait(tasks, timeout=SEE_OFF)
