"""The process beside a worker that starts it again, and tells the driver how it ended."""

import asyncio
import logging
import os
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import psutil  # type: ignore[import-untyped]
from dask.utils import format_bytes
from distributed import Nanny
from distributed.core import Status

from espnet3.parallel.worker.spawn_environment import taken_back
from espnet3.parallel.worker.stack import dump_stack

logger = logging.getLogger(__name__)

START_TRIES = 3  # so many worker processes may die before their nanny has seen one run

ENDED = "espnet3-worker-ended"
"""Topic of the scheduler's events that `ended` makes."""


def ended(name: str, status: int | None, stack: str = "", how: str = "") -> dict[str, Any]:
    """The event that tells how a worker ended.

    Args:
        name: of the worker.
        status: of its process; None if it went down with its job, for no fault of its own.
        stack: where it was then; "" if unknown.
        how: it ended, in words, if they say more than the status.
    """
    return {"worker": name, "status": status, "stack": stack, "how": how}


class StartFailed(Exception):
    """A worker process ended before it had reached the driver; the text says how.

    Attributes:
        status: its exit status.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class LeaseNanny(Nanny):
    """Dask's nanny, which also says with what status its worker process ended.

    Only the parent of a process learns that. A negative status is the number of a signal.
    """

    leaving: "asyncio.Task[None] | None" = None
    """What `leave` does, once it was called."""
    stack: str = ""
    """Where the worker process was when it was ended."""

    exit_status: int | None = None
    """Of the worker process, once it has ended."""

    too_much: str = ""
    """How much memory the worker process had when it was ended for that."""

    async def instantiate(self) -> Status:
        """Start a worker process; another one if a signal ends it before it was seen to run.

        Dask's nanny would end with the first: yet its worker may have reached the driver, and died
        of an item.

        Raises:
            StartFailed: if no worker has been up before, and none comes up.
        """
        beginning, end = (Status.init, Status.starting), ""
        for _ in range(START_TRIES):
            self.exit_status = None
            with taken_back(self.pre_spawn_env):
                status = await self._start_process()
            if self.exit_status is None or self.status not in beginning:
                return status
            end = f"worker {self.name}: {how_it_ended(self.exit_status)} while it started"
            if 0 <= self.exit_status != 128 + signal.SIGTERM:
                raise StartFailed(
                    f"{end}; what it said stands above. Each imports the program first: is what "
                    'it runs under `if __name__ == "__main__":`?',
                    self.exit_status,
                )
        raise StartFailed(f"{end}, {START_TRIES} times")

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
        self.exit_status = exitcode
        if self.status not in (Status.closing, Status.closed):  # else the driver has ended it
            with suppress(RuntimeError):  # it is closing all the same
                how = f"{how_it_ended(exitcode)}: {self.too_much}" if self.too_much else ""
                message = ended(str(self.name), exitcode, self.stack, how)
                self._ongoing_background_tasks.call_soon(self._tell, message)
        self.stack = self.too_much = ""
        super()._on_worker_exit_sync(exitcode)  # type: ignore[no-untyped-call]

    def log_event(self, topic: str | Collection[str], msg: Any) -> None:
        """Called by Dask, also before it ends a worker that takes too much memory."""
        if topic == "worker-restart-memory":
            taken, limit = msg["rss"], self.memory_manager.memory_limit or 0
            self.too_much = f"it took {format_bytes(taken)} of memory, of {format_bytes(limit)}"
        super().log_event(topic, msg)  # type: ignore[no-untyped-call]

    async def _tell(self, message: Mapping[str, Any]) -> None:
        # By name: a worker may die before its nanny has learned its address.
        with suppress(Exception):  # the scheduler is gone; then nobody asks
            await self.scheduler.log_event(topic=ENDED, msg=message)


def how_it_ended(status: int) -> str:
    """A process's exit status in words."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"killed by signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"killed by signal {-status}"


async def kill_worker(log: str, dask_worker: Any) -> None:
    """End the worker process of a nanny, and what it has started.

    Run by `client.run(..., nanny=True)`.

    Args:
        log: path of its log, where it shall say first where it is; "" if it has none.
        dask_worker: the nanny.
    """
    pid = dask_worker.pid
    if not pid:
        return
    stack = await dump_stack(pid, log) if log else ""
    if dask_worker.pid == pid:  # else it has died meanwhile, and another may be in its place
        dask_worker.stack = stack
        kill_tree(pid)


async def leave(dask_worker: Any) -> None:
    """Let a nanny's worker end, as it is not needed any more, and its job with it.

    Run by `client.run(..., nanny=True)`.
    """
    dask_worker.leave("there is nothing more to do")


def kill_tree(pid: int) -> None:
    """End a process and all that it has started, at once.

    Only resource trackers (joblib's, multiprocessing's) are left: they end by themselves, and
    remove what the others leave in shared memory.
    """
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        below = process.children(recursive=True)  # once it is dead, nobody knows them
        process.kill()
        for child in below:
            with suppress(psutil.Error):
                if not any("resource_tracker" in word for word in child.cmdline()):
                    child.kill()
