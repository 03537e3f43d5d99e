"""Looking at what workers have in hand: what takes long is told, and ended after `unit_timeout`.

Seen from outside, by their markers: a worker that holds the GIL cannot look at its own clock.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from espnet3.parallel.engine.progress import duration
from espnet3.parallel.engine.run import Run
from espnet3.parallel.executors.worker_state import Worker
from espnet3.parallel.wording import printable
from espnet3.parallel.worker.nanny import kill_worker

logger = logging.getLogger(__name__)

LOOK_EVERY = 30.0  # seconds between two looks; more often where a short `unit_timeout` asks for it
LONG = 60.0  # seconds: nothing in hand for less is told; also, markers on NFS are seen late
TIMES_LONGEST = 2  # as long as that is normal: nor what took less than so many longest units
NAMED = 3  # workers that a line names


class Lookout:
    """Watches the units in hand of one run's workers.

    Args:
        run: knows the names of items, and how long they took so far.
        client: Dask's, of the cluster.
    """

    def __init__(self, run: Run, client: Any) -> None:
        self._run = run
        self._client = client
        self._limit = run.config.unit_timeout
        self._next_look = 0.0

    @property
    def every(self) -> float:
        """Seconds between two looks."""
        if self._limit is None:
            return LOOK_EVERY
        return min(LOOK_EVERY, max(0.02, self._limit / 10))

    def look(self, workers: Mapping[str, Worker]) -> None:
        """Do what is due: markers are files, so not at each of the driver's events.

        Args:
            workers: by address.
        """
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + self.every
        for address, worker in workers.items():
            worker.look(now, self.every)
            if self._limit is not None and worker.is_stuck(self._limit):
                self._end(address, worker, self._limit)
        self._tell([worker for worker in workers.values() if worker.lease is not None])

    def _end(self, address: str, worker: Worker, limit: float) -> None:
        logger.warning(
            "worker %s has been at %s for more than unit_timeout = %g s; ending it",
            worker.name, self._name(worker.ended_at or 0), limit,
        )  # fmt: skip
        log = str(self._run.run_dir / worker.log) if worker.log else ""
        with suppress(KeyError):  # it has just died by itself
            self._client.run(
                kill_worker, log, workers=[address], nanny=True, wait=False, on_error="ignore"
            )

    def _tell(self, busy: Sequence[Worker]) -> None:
        """Say who has been at what for long; of a unit again when it has taken twice the time."""
        if not any(worker.seconds >= max(LONG, worker.tell_at) for worker in busy):
            return
        normal = max(LONG, TIMES_LONGEST * self._run.coverage.longest)
        long = [worker for worker in busy if worker.seconds >= normal]
        if not any(worker.seconds >= worker.tell_at for worker in long):
            return
        for worker in long:
            worker.tell_at = 2 * worker.seconds
        long.sort(key=lambda worker: -worker.seconds)
        text = ", ".join(map(self._where, long[:NAMED]))
        if len(long) > NAMED:
            text += f", and {len(long) - NAMED} more for {duration(normal)} or longer"
        if self._limit is None and any(worker.position is not None for worker in long):
            text += "; `unit_timeout` (in `run:`) ends an item that takes too long and records it"
        logger.warning("%s", text)

    def _where(self, worker: Worker) -> str:
        what = "opening, closing or committing its shard"
        if worker.position is not None:
            what = f"at {self._name(worker.position)}"
        return f"worker {worker.name} has been {what} for {duration(worker.seconds)}"

    def _name(self, position: int) -> str:
        return printable(self._run.name_of(position))
