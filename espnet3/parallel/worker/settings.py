"""Dask's settings on the side of a worker, the same on every backend."""

from typing import Any

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
"""The variable that tells CUDA which GPUs a process may see."""

WORKER_SETTINGS: dict[str, Any] = {
    # A daemonic process may have no children, but DataLoader workers are some.
    "distributed.worker.daemon": False,
    "distributed.worker.preload": ["espnet3.parallel.worker.preload"],
    "distributed.worker.profile.enabled": False,
    # Its web server shows nothing until the preload stops it.
    "distributed.worker.http.routes": [],
    # A paused worker would hold its lease for ever, and there is nothing to spill.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
