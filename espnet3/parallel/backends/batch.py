"""Clusters of batch jobs: one worker a job, submitted by dask-jobqueue."""

import itertools
import logging
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from espnet3.parallel.backends.bring_up import closed_on_error, submit_first
from espnet3.parallel.backends.job import Submissions, job_class
from espnet3.parallel.backends.jobqueue import (
    ask_jobs,
    check_commands,
    check_size,
    cluster_class,
    job_options,
)
from espnet3.parallel.backends.scheduler_side import listening
from espnet3.parallel.backends.schedulers import SCHEDULERS
from espnet3.parallel.backends.watch import Watch
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.credentials import KeyFiles
from espnet3.parallel.engine.disk import explained

logger = logging.getLogger(__name__)


def make_cluster(config: ParallelConfig, logs: Path) -> Any:
    """Submit the jobs of all workers; return as soon as the scheduler has accepted one.

    The cluster has a `watch` beside what Dask gives it, which ends with it.

    Raises:
        ConfigError: if options are wrong, no node is large enough, or this host cannot submit jobs.
        RunStopped: if the scheduler refuses the jobs, in its own words, or logs cannot be written.
    """
    env = config.env
    check_commands(env)
    given = job_options(env, config.options, logs)
    given["scheduler_options"] = listening(
        given.get("scheduler_options", {}), given.get("interface"), config.secure
    )
    job_logs = Path(given["log_directory"])
    with explained(job_logs):
        job_logs.mkdir(parents=True, exist_ok=True)
    submissions = Submissions()
    # Workers write into the run directory, so they see what is there.
    place = Path(given.pop("shared_temp_directory", logs))
    keys = KeyFiles(place) if config.secure else None
    given.setdefault("silence_logs", False)
    if keys is not None:
        given |= {"security": keys.credentials.security(), "protocol": "tls"}
    cluster = _watched(env)(keys, job_cls=job_class(env, submissions), **given)
    with closed_on_error(cluster):
        check_size(env, cluster.job_script())
        cluster.log_directory = given["log_directory"]
        told_by = SCHEDULERS[env].out_of_memory
        cluster.watch = Watch(cluster, ask_jobs(env, given), submissions, config, told_by)
        submit_first(cluster, submissions, config, "job")
    logger.info(
        "jobs of %d workers are submitted to %s; their logs are in %s",
        config.n_at_first, env, cluster.log_directory,
    )  # fmt: skip
    return cluster


def _watched(env: str) -> Any:
    """The cluster class of a scheduler, with names that never come twice, a watch and key files."""
    base = cluster_class(env)

    def init(self: Any, keys: KeyFiles | None, **options: Any) -> None:
        self._count = itertools.count()
        self.watch = None
        self._keys = keys
        base.__init__(self, **options)

    def new_worker_name(self: Any, number: int) -> str:
        return f"{env}-{next(self._count)}"

    def logs_of(self: Any, job_id: str) -> list[Path]:
        # Every scheduler puts the id into the names; 4711 is not in 14711.
        whole = re.compile(rf"(?<!\d){re.escape(job_id)}(?!\d)")
        found = Path(self.log_directory).glob(f"*{job_id}*")
        return sorted(path for path in found if whole.search(path.name))

    def remove_keys(self: Any) -> None:
        if self._keys is not None:
            self._keys.remove()

    def cancel(self: Any, ids: Sequence[str]) -> None:
        self.remove_keys()  # this process may end without more ado
        with suppress(OSError, subprocess.TimeoutExpired):
            command = [*self.job_cls.cancel_command.split(), *ids]
            subprocess.run(command, capture_output=True, timeout=10.0, check=False)

    def close(self: Any, timeout: float | None = None) -> Any:
        if self.watch is not None:
            self.watch.stop()
        self.remove_keys()
        return base.close(self, timeout)

    methods = {
        "__init__": init,
        "_new_worker_name": new_worker_name,
        "logs_of": logs_of,
        "remove_keys": remove_keys,
        "cancel": cancel,
        "close": close,
    }
    return type(base.__name__, (base,), methods)
