"""`env: local`, `local_gpu`: worker processes on this machine, in a LocalCluster with our settings.

With `local_gpu` each has a GPU of its own.
"""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from espnet3.parallel.backends.environment import THREAD_VARIABLES
from espnet3.parallel.backends.gpus import gpus_for
from espnet3.parallel.backends.scheduler_side import web_server
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.credentials import make_credentials

if TYPE_CHECKING:
    from distributed import LocalCluster


def worker_environment(n_workers: int) -> dict[str, str]:
    """Environment variables that give each of `n_workers` its share of this machine's cores.

    A variable that the user has set stays as it is.
    """
    threads = max(1, _cores() // n_workers)
    return {name: str(threads) for name in THREAD_VARIABLES if name not in os.environ}


def make_cluster(config: ParallelConfig) -> "LocalCluster":
    """Start `n_workers` processes on this machine, one task at a time each.

    They have no Dask memory limit: a worker above it would be paused, and its lease with it.

    Raises:
        ConfigError: if there are fewer GPUs than workers that need one.
    """
    from distributed import LocalCluster

    from espnet3.parallel.worker.nanny import LeaseNanny

    options: Mapping[str, Any] = config.options
    defaults: dict[str, Any] = {
        "n_workers": config.n_workers,
        "worker_class": LeaseNanny,
        "threads_per_worker": 1,
        "memory_limit": 0,
        "silence_logs": logging.ERROR,
        "host": "127.0.0.1",
    }
    if config.env == "local_gpu":
        from espnet3.parallel.worker.gpu_nanny import GpuNanny

        defaults |= {"worker_class": GpuNanny, "devices": gpus_for(config)}
    if config.secure:
        defaults |= {"protocol": "tls://", "security": make_credentials().security()}
    kwargs = dict(options.get("scheduler_kwargs", {}))
    if "dashboard_address" in options:
        kwargs["dashboard_address"] = options["dashboard_address"]
    return LocalCluster(**{**defaults, **options, "scheduler_kwargs": web_server(kwargs)})


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
