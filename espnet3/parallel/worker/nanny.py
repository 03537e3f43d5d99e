"""The process beside a worker that starts it again, and tells the driver how it ended."""

import asyncio
import logging
import os
import signal
from contextlib import suppress
from typing import Any

from distributed import Nanny
from distributed.core import Status

logger = logging.getLogger(__name__)

START_TRIES = 3  # so many worker processes may die before their nanny has seen one run

ENDED = "espnet3-worker-ended"
"""Topic of the scheduler's events `{"worker": name, "status": exit code}`."""


class LeaseNanny(Nanny):
    """Dask's nanny, which also says with what status its worker process ended.

    Only the parent of a process learns that. A negative status is the number of a signal.
    """

    leaving: "asyncio.Task[None] | None" = None
    """What `leave` does, once it was called."""

    async def instantiate(self) -> Status:
        """Start the worker process; another one if it dies before it was seen to run.

        Dask's nanny would end with the first: yet its worker may have reached the driver, and died
        of an item.
        """
        for _ in range(START_TRIES):
            result = await self._start_process()
            if result is Status.running or self.status is not Status.starting or self.leaving:
                break
        return result

    async def _start_process(self) -> Status:
        return await super().instantiate()

    def leave(self, why: str) -> None:
        """Let the worker commit what is finished, and end with it instead of starting it again."""
        if self.leaving is None:
            logger.warning("leaving: %s", why)
            self.leaving = asyncio.ensure_future(self._leave(why))

    async def _leave(self, why: str) -> None:
        self.close_gracefully(reason=why)
        # The worker's own handler drains. It may have had the signal already, and may take long.
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        while self.pid:
            await asyncio.sleep(0.05)
        await self.close(reason=why)

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        if self.status not in (Status.closing, Status.closed):  # else the driver has ended it
            with suppress(RuntimeError):  # it is closing all the same
                self._ongoing_background_tasks.call_soon(self._tell, exitcode)
        super()._on_worker_exit_sync(exitcode)  # type: ignore[no-untyped-call]

    async def _tell(self, exitcode: int) -> None:
        # By name: a worker may die before its nanny has learned its address.
        with suppress(Exception):  # the scheduler is gone; then nobody asks
            message = {"worker": str(self.name), "status": exitcode}
            await self.scheduler.log_event(topic=ENDED, msg=message)


def kill_worker(dask_worker: Any) -> None:
    """End the worker process of a nanny at once (run by `client.run(..., nanny=True)`)."""
    pid = dask_worker.pid
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
