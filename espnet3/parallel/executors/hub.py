"""The driver's ear in Dask's scheduler: workers' calls, arrivals and deaths, in one queue."""

import asyncio
import pickle
import queue
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from distributed import SchedulerPlugin

from espnet3.parallel.executors import messages
from espnet3.parallel.worker.nanny import ENDED


@dataclass(frozen=True)
class Joined:
    """A worker is there; `name` is the one that its replacement will have, too."""

    worker: str
    name: str
    host: str = ""
    pid: int = 0


@dataclass(frozen=True)
class Gone:
    """A worker is not there any more."""

    worker: str


@dataclass(frozen=True)
class Asked:
    """A worker says something and waits for the answer."""

    worker: str
    message: bytes
    answer: "asyncio.Future[bytes]"


@dataclass(frozen=True)
class Ended:
    """The task of a worker ended by itself: it lost the driver, or could not begin."""

    worker: str
    key: str


@dataclass(frozen=True)
class Exited:
    """The process of the worker of that name has ended, with this status (below 0: by a signal).

    `status` is None if it went down with its job. `stack` says where it was, if it was ended for
    taking too long; `how` says more than the status, unless it is "".
    """

    name: str
    status: int | None
    stack: str = ""
    how: str = ""


@dataclass(frozen=True)
class Interrupted:
    """The driver was asked to end."""


Event = Joined | Gone | Asked | Ended | Exited | Interrupted


async def _send_home(worker: str, message: bytes) -> bytes:
    """The answer to a worker of a run that has ended."""
    return pickle.dumps(None)


class Hub(SchedulerPlugin):
    """A Dask scheduler plugin. Its methods run on the scheduler's event loop.

    They only put events into `inbox`, where the driver's thread finds them: all decisions are made
    there, one after the other.

    Args:
        scheduler: the cluster's scheduler; it lives in this process.
        token: of the run; several runs may share a cluster.
    """

    def __init__(self, scheduler: Any, token: str) -> None:
        self.inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._scheduler = scheduler
        self.name = self._operation = messages.pull_operation(token)
        self._waiting: set[asyncio.Future[bytes]] = set()
        self._loop: asyncio.AbstractEventLoop = scheduler.loop.asyncio_loop

    def install(self) -> None:
        """Begin to listen. Workers that are there already are announced too."""
        self._loop.call_soon_threadsafe(self._install)

    def remove(self) -> None:
        """Stop listening: workers that wait, or ask later, end their task."""
        self._loop.call_soon_threadsafe(self._remove)

    def reply(self, asked: Asked, work: messages.Work | None) -> None:
        """Answer a waiting worker, from the driver's thread."""
        data = pickle.dumps(work)

        def set_answer() -> None:
            if not asked.answer.done():
                asked.answer.set_result(data)

        self._loop.call_soon_threadsafe(set_answer)

    def add_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Called by Dask."""
        self._announce(worker)

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Called by Dask."""
        self.inbox.put(Gone(worker))

    def log_event(self, topic: str, msg: Any) -> None:
        """Called by Dask: nannies tell how their workers ended."""
        if topic == ENDED:
            self.inbox.put(Exited(msg["worker"], msg["status"], msg["stack"], msg["how"]))

    async def _pull(self, worker: str, message: bytes) -> bytes:
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting.add(answer)
        self.inbox.put(Asked(worker, message, answer))
        try:
            return await answer
        finally:
            self._waiting.discard(answer)

    def _install(self) -> None:
        self._scheduler.handlers[self._operation] = self._pull
        self._scheduler.add_plugin(self, name=self.name)
        for worker in list(self._scheduler.workers):
            self._announce(worker)

    def _announce(self, worker: str) -> None:
        known = self._scheduler.workers[worker]
        self.inbox.put(Joined(worker, str(known.name), known.host, known.pid))

    def _remove(self) -> None:
        # A worker that has been building its env until now may still come; without a handler the
        # answer would be an error of Dask's.
        self._scheduler.handlers[self._operation] = _send_home
        for answer in list(self._waiting):
            if not answer.done():
                answer.set_result(pickle.dumps(None))
        with suppress(ValueError):
            self._scheduler.remove_plugin(name=self.name)
