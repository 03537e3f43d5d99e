"""How long the driver waits for workers to come, and what it says of that meanwhile."""

import logging
import math
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from espnet3.errors import RunStopped
from espnet3.parallel.backends.watch import Watch
from espnet3.parallel.engine.events import WAITING
from espnet3.parallel.engine.run import Run
from espnet3.parallel.executors.worker_state import Worker, any_able
from espnet3.parallel.parallel import in_session

logger = logging.getLogger(__name__)

SAY_EVERY = 30.0  # seconds between two lines about what is waited for
SAY_FIRST = 8.0  # seconds before the first of them about batch jobs
NO_WORKER_LIMIT = 300.0  # seconds without any worker that end a run on this machine
WATCH_EVERY = 1.0  # seconds between two looks at what is known of batch jobs


@dataclass
class Waiting:
    """Times one driver's waiting, from now on.

    Attributes:
        run: that workers are waited for.
        provider: what they build their env with, in words.
        watch: of batch jobs, which may wait in a queue for long; None if there are none.
        start_timeout: seconds without any worker that end the run; None for those that fit the
            backend.
    """

    run: Run
    provider: str
    watch: Watch | None
    start_timeout: float | None
    _now: float = field(init=False)
    _last_seen: float = field(init=False)
    _last_heard: float = field(init=False)

    def __post_init__(self) -> None:
        self._now = self._last_seen = self._last_heard = time.monotonic()
        if self.watch is not None:  # a queue is told of soon, as it may last
            self._last_heard -= SAY_EVERY - SAY_FIRST

    @property
    def every(self) -> float:
        """Seconds between two looks."""
        if self.watch is not None:
            return min(SAY_EVERY, WATCH_EVERY)
        return SAY_EVERY if self.start_timeout is None else min(SAY_EVERY, self.start_timeout)

    def look(self, workers: Collection[Worker]) -> None:
        """Note the time, before an event is waited for.

        Args:
            workers: all that are there.

        Raises:
            RunStopped: none has come for too long, or none can.
        """
        self._now = time.monotonic()
        limit = self.start_timeout or (NO_WORKER_LIMIT if self.watch is None else math.inf)
        if any_able(workers):
            self._last_seen = self._now
        elif self.watch is not None and self.watch.fatal:
            raise RunStopped(self.watch.fatal)
        elif self._now - self._last_seen > limit:
            why = f": {self.watch.waited_for()}" if self.watch is not None else ""
            raise RunStopped(f"no worker came within {limit:.0f} s{why}")

    def heard(self) -> None:
        """An event came."""
        self._last_heard = self._now

    def heard_nothing(self, workers: Collection[Worker]) -> None:
        """None came; say what is waited for, if that has been so for a while.

        Args:
            workers: all that are there.

        Raises:
            OwnershipLost: another driver has taken the run over meanwhile.
        """
        if self._now - self._last_heard < SAY_EVERY:
            return
        self._last_heard = self._now
        self.run.check_owner()
        if not any_able(workers):
            why = self.watch.waited_for() if self.watch is not None else "there is none"
            logger.warning("waiting for a worker: %s", why)
            self.run.events.state(WAITING, why)
        elif not any(worker.lease for worker in workers):
            n = sum(not (worker.marker or worker.useless) for worker in workers)
            before = ", or ending what a run before gave them" if in_session() else ""
            if n:
                what = f"building their env ({self.provider}){before}"
                who = "worker" if n == 1 else "workers"
                logger.info("waiting for %d %s: %s", n, who, what)
                self.run.events.state(WAITING, f"{n} {who}: {what}")
