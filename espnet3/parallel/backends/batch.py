"""Clusters of batch jobs: one worker a job, submitted by dask-jobqueue."""

import itertools
import logging
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from espnet3.errors import RunStopped
from espnet3.parallel.backends.job import Submissions, job_class
from espnet3.parallel.backends.jobqueue import (
    SCHEDULERS,
    check_commands,
    cluster_class,
    job_options,
)
from espnet3.parallel.backends.watch import Watch
from espnet3.parallel.config import ParallelConfig

logger = logging.getLogger(__name__)


def make_cluster(config: ParallelConfig, logs: Path) -> Any:
    """Submit the jobs of all workers; return as soon as the scheduler has accepted one.

    The cluster has a `watch` beside what Dask gives it, which ends with it.

    Raises:
        ConfigError: if options are wrong, or this host cannot submit jobs.
        RunStopped: if the scheduler refuses the jobs, in its own words.
    """
    env = config.env
    check_commands(env)
    given = job_options(env, config.options, logs)
    submissions = Submissions()
    given["scheduler_options"] = {
        **scheduler_side(given.get("interface")),
        **given.get("scheduler_options", {}),
    }
    given.setdefault("silence_logs", logging.CRITICAL)
    cluster = _watched(env)(job_cls=job_class(env, submissions), **given)
    try:
        cluster.log_directory = given["log_directory"]
        cluster.watch = Watch(cluster, SCHEDULERS[env].jobs, submissions, config.n_workers)
        cluster.scale(config.n_workers)
        submissions.wait(config.n_workers)
        if not submissions.n_accepted:
            words = "\n".join(dict.fromkeys(submissions.refusals()))
            raise RunStopped(f"{env} refuses the job: {words}")
        cluster.watch.start()
    except BaseException:
        cluster.close()
        raise
    logger.info(
        "jobs of %d workers are submitted to %s; their logs are in %s",
        config.n_workers, env, cluster.log_directory,
    )  # fmt: skip
    return cluster


def _watched(env: str) -> Any:
    """The cluster class of a scheduler, with names that never come twice and a watch."""
    base = cluster_class(env)

    def init(self: Any, **options: Any) -> None:
        self._count = itertools.count()
        self.watch = None
        base.__init__(self, **options)

    def new_worker_name(self: Any, number: int) -> str:
        return f"{env}-{next(self._count)}"

    def logs_of(self: Any, job_id: str) -> list[Path]:
        # Every scheduler puts the id into the names.
        return sorted(Path(self.log_directory).glob(f"*{job_id}*"))

    def cancel(self: Any, ids: Sequence[str]) -> None:
        with suppress(OSError, subprocess.TimeoutExpired):
            command = [*self.job_cls.cancel_command.split(), *ids]
            subprocess.run(command, capture_output=True, timeout=10.0, check=False)

    def close(self: Any, timeout: float | None = None) -> Any:
        if self.watch is not None:
            self.watch.stop()
        return base.close(self, timeout)

    methods = {
        "__init__": init,
        "_new_worker_name": new_worker_name,
        "logs_of": logs_of,
        "cancel": cancel,
        "close": close,
    }
    return type(base.__name__, (base,), methods)


def scheduler_side(interface: str | None) -> dict[str, Any]:
    """Options of the Dask scheduler in the driver, which listens on one address alone."""
    from distributed.utils import get_ip

    # The address by which other hosts most likely reach this one.
    where = {"interface": interface} if interface else {"host": get_ip()}
    # No web server: whoever can reach it could see what runs.
    return {**where, "dashboard_address": "127.0.0.1:0", "dashboard": False}
