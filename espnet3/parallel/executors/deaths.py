"""Workers that are gone: how they ended is waited for, then their leases are dealt again."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from espnet3.parallel.engine.lease_events import told
from espnet3.parallel.engine.marker import read_marker, remove_marker
from espnet3.parallel.engine.run import Run
from espnet3.parallel.executors.hub import Exited
from espnet3.parallel.executors.roll import Roll
from espnet3.parallel.executors.worker_state import Worker

logger = logging.getLogger(__name__)

TELL_LIMIT = 10.0  # seconds that a nanny has to say how its worker ended; it may be gone, too
TELL_LIMIT_OF_JOBS = 30.0  # the same where a scheduler is asked about the job, once it has ended:
# SGE may say only 15 s later how


@dataclass
class Deaths:
    """The workers of one run that the scheduler misses.

    Attributes:
        run: is told what they had in hand.
        roll: is told that they went.
        are_jobs: whether workers are batch jobs.
        then: is called after each, as its lease is back.
        dying: those that are gone, but nobody has said yet how they ended; by address.
    """

    run: Run
    roll: Roll
    are_jobs: bool
    then: Callable[[], None]
    dying: dict[str, Worker] = field(default_factory=dict)

    @property
    def every(self) -> float:
        """Seconds between two looks; infinite while there is nothing to look at."""
        return TELL_LIMIT if self.dying else math.inf

    def miss(self, address: str, worker: Worker) -> None:
        """A worker is gone; unless it was of no use, it matters how it ended."""
        worker.gone_at = time.monotonic()
        self.roll.gone()
        if worker.useless or worker.status is not None:
            self._bury(worker)
        else:
            self.dying[address] = worker

    def learn(self, end: Exited, living: Mapping[str, Worker]) -> None:
        """How a worker ended: told before another of the same name comes in its place.

        Args:
            end: what its nanny says.
            living: the workers that are not missed yet.
        """
        for address, worker in (*self.dying.items(), *living.items()):
            if worker.name == end.name:
                worker.status, worker.stack, worker.how = end.status, end.stack, end.how
                if self.dying.pop(address, None) is not None:
                    self._bury(worker)
                return

    def look(self) -> None:
        """Bury those of whom no more is heard."""
        now = time.monotonic()
        limit = TELL_LIMIT_OF_JOBS if self.are_jobs else TELL_LIMIT
        for address, worker in list(self.dying.items()):
            if now - worker.gone_at > limit:
                del self.dying[address]
                self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        self.roll.lost(worker)
        if worker.lease is None:
            if not worker.useless and worker.ended_at is None:
                self.run.lost_idle(worker.death)
        else:
            found = None
            # A nanny that is silent went down with its job: for no item's fault.
            if not self.are_jobs or worker.status is not None:
                found = read_marker(Path(worker.marker), worker.lease.number)
            if worker.ended_at is None:  # else it is told already
                how = worker.death.how or "died"
                what = told(worker.lease, self.run.order)
                logger.warning("worker %s %s with %s in hand", worker.name, how, what)
            self.run.lost(worker.lease, found, worker.death)
        if worker.marker:
            remove_marker(worker.marker)
        self.then()
