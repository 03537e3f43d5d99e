"""The nanny of a worker that sees one GPU alone."""

import asyncio
import os
import weakref
from collections.abc import Sequence
from typing import Any

from distributed.core import Status

from espnet3.parallel.worker.nanny import LeaseNanny
from espnet3.parallel.worker.settings import VISIBLE_GPUS

_locks: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]"
_locks = weakref.WeakKeyDictionary()


class GpuNanny(LeaseNanny):
    """Starts its worker, also in place of one that died, with its own CUDA_VISIBLE_DEVICES.

    A process has it from its first instruction on: the program that a worker imports before all
    else may touch CUDA, which reads the variable once.

    Args:
        scheduler: its address.
        name: number of the worker, below `len(devices)`.
        devices: of all workers, as entries of CUDA_VISIBLE_DEVICES; they may share one.
        options: of Dask's nanny.
    """

    def __init__(
        self, scheduler: Any, *, name: int, devices: Sequence[str], **options: Any
    ) -> None:
        super().__init__(scheduler, name=name, **options)
        self._device = devices[int(name)]

    async def _start_process(self) -> Status:
        # A process is given the variables that this one has just then: one start at a time.
        lock = _locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            before = os.environ.get(VISIBLE_GPUS)
            os.environ[VISIBLE_GPUS] = self._device
            starting = asyncio.ensure_future(super()._start_process())
            try:
                while not starting.done() and not self.pid:
                    await asyncio.sleep(0.005)
            finally:
                if before is None:
                    os.environ.pop(VISIBLE_GPUS, None)
                else:
                    os.environ[VISIBLE_GPUS] = before
        return await starting
