"""What the driver knows of one worker process."""

import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.death import Death
from espnet3.parallel.engine.marker import read_marker
from espnet3.parallel.executors.hub import Asked
from espnet3.parallel.worker.nanny import how_it_ended

_TOLD_TO_END = {128 + signal.SIGTERM, -signal.SIGTERM}
"""Statuses of a worker that somebody sent SIGTERM: with its own handler, or before it had one."""

END_AGAIN = 30.0  # seconds between two tries to end a worker


@dataclass
class Worker:
    """One worker process, as far as it has told of itself.

    Attributes:
        task: the Dask future of its long task.
        name: of the worker.
        process: its name and its pid, `name.pid`, as its reports and markers are called.
        pid: of its process; 0 before it has said so itself.
        marker: path of its in-flight marker.
        log: its log file, below the run directory.
        lease: what it has in hand.
        doing: what it does while it has none, in words; "" if it just waits.
        waiting: its question that is not answered yet.
        sent_home: it was told to leave, as there is nothing more to do.
        useless: why it takes no leases though its process lives, in words; "" if it takes them.
        status: with which its process ended, if that is known.
        how: it ended, in words; "" if they say no more than the status.
        gone_at: when the scheduler missed it (monotonic seconds).
        ended_at: the position for whose unit's long time the driver ended it.
        stack: where it was then, as `worker.stack` tells it; "" if unknown.
        position: of the unit in hand at the last look; None if it had begun none.
        seconds: for how long that had been so.
        tell_at: seconds after which that is told next.
    """

    task: Any
    name: str = ""
    process: str = ""
    pid: int = 0
    marker: str = ""
    log: str = ""
    lease: Lease | None = None
    doing: str = ""
    waiting: Asked | None = None
    sent_home: bool = False
    useless: str = ""
    status: int | None = None
    how: str = ""
    gone_at: float = 0.0
    ended_at: int | None = None
    stack: str = ""
    position: int | None = None
    seconds: float = 0.0
    tell_at: float = 0.0
    _unit: tuple[int | None, int | None] = (None, None)
    _since: float = 0.0
    _looked: float = 0.0
    _end_again_at: float = 0.0

    @property
    def death(self) -> Death:
        """What is known of its end."""
        how = self.how or ("" if self.status is None else how_it_ended(self.status))
        told_to_end = self.status in _TOLD_TO_END
        return Death(
            how,
            self.ended_at,
            self.name,
            self.log,
            self.stack,
            self.doing,
            told_to_end,
            self.process,
        )

    def how_its_task_ended(self) -> str:
        """In words, where it ended by itself."""
        if self.task.status == "error":
            error = self.task.exception()
            return f"its task ended: {type(error).__name__}: {error}"
        return "it lost its connection to this driver"

    def look(self, now: float, every: float) -> None:
        """See by its marker what it has in hand.

        Args:
            now: the time (monotonic seconds).
            every: seconds between two looks, as they are meant to be.
        """
        gap, self._looked = now - (self._looked or now), now
        if gap > 5 * every:  # nobody was looking: this process was suspended, and perhaps all
            self._since += gap
        number = None if self.lease is None else self.lease.number
        unit = None if number is None else read_marker(Path(self.marker), number)
        self.position = None if unit is None else unit.position
        if (number, self.position) != self._unit:
            self._unit, self._since, self.tell_at = (number, self.position), now, 0.0
        self.seconds = now - self._since

    def is_stuck(self, limit: float) -> bool:
        """Whether its unit has been in hand for longer than `limit` seconds, and it is to be ended.

        True once, and again if it lives on: its nanny may not have been reached.
        """
        if self.position is None or self.seconds <= limit:
            return False
        if self.position == self.ended_at and self.seconds < self._end_again_at:
            return False
        self.ended_at, self._end_again_at = self.position, self.seconds + END_AGAIN
        return True


def any_able(workers: Collection[Worker]) -> bool:
    """Whether one of them takes leases."""
    return any(not worker.useless for worker in workers)
