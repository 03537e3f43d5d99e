"""What a start has done so far, counted for the line that says how far it is."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from espnet3.parallel.engine.coverage import Shard
from espnet3.parallel.engine.pace import Pace
from espnet3.parallel.engine.progress import SAY_EVERY, Standing, audio_pace, line, workers

logger = logging.getLogger(__name__)

PROGRESS = "espnet3_progress"
"""Attribute of log records that say how far a run is; who shows that anyway leaves them out."""


@dataclass
class Crew:
    """How many workers are there, and how many have died."""

    up: int = 0
    lost: int = 0


class Tally:
    """Counts; times are seconds of the run's clock.

    Args:
        goal: positions to do, with those that are done.
        n_workers: that there are to be.

    Attributes:
        pace: of the leases.
        seconds: in `forward`, for what is done since the start.
        crew: the workers; None where the driver does the work itself.
        in_hand: tells how many positions are done that nobody has reported yet; any thread may ask.
    """

    def __init__(self, goal: int, n_workers: int) -> None:
        self.pace = Pace()
        self.seconds = 0.0
        self.crew: Crew | None = None
        self.in_hand: Callable[[], int] | None = None
        self._began = self._said_at = 0.0
        self._goal, self._wanted = goal, n_workers
        self._done_before, self._audio = 0, 0.0
        self._standing: Standing | None = None

    def begin(self, now: float, done: int, audio: float) -> None:
        """Work begins.

        Args:
            now: the time.
            done: positions that were done before.
            audio: seconds of audio that are to be done; 0 if unknown.
        """
        self._began = self._said_at = now
        self._done_before, self._audio = done, audio

    @property
    def seconds_per_position(self) -> float:
        """Seconds in `forward`; 0 before anything is done."""
        return self.seconds / max(1, self.pace.done)

    @property
    def audio_pace(self) -> str:
        """The audio that was done, in words; "" where the data knows no durations."""
        return audio_pace(self.pace.audio, self.seconds) if self.pace.audio else ""

    def back(self, lease: int, shard: Shard | None, now: float, audio: float) -> None:
        """A lease came back, with a shard or without; `audio` is that of the shard."""
        done = 0
        if shard is not None:
            done = shard.stop - shard.first
            self.seconds += shard.forward_seconds
        self.pace.back(lease, now, done, audio)

    def stand(self, now: float, failed: int, audio: float) -> None:
        """Take down how far it is, and say so now and then.

        Args:
            now: the time.
            failed: positions that failed.
            audio: seconds of audio in what is neither done nor failed.
        """
        crew, done = self.crew, self._done_before + self.pace.done
        left, n_workers = self._goal - done - failed, self.pace.n_out + 1  # one has just come back
        self._standing = Standing(
            goal=self._goal,
            done=done,
            failed=failed,
            at=now,
            took=now - self._began,
            new=self.pace.done,
            audio=self._audio,
            heard=self.pace.audio,
            worked=self.seconds,
            left=self.pace.left(left, audio, now, n_workers),
            workers=None if crew is None else crew.up,
            wanted=self._wanted,
            lost=0 if crew is None else crew.lost,
        )
        if now - self._said_at >= SAY_EVERY:
            self._said_at = now
            logger.info("%s", line(self._standing, now), extra={PROGRESS: True})

    def line(self, now: float) -> str:
        """How far it is; "" where there is nothing to say before work has begun."""
        standing, in_hand, crew = self._standing, self.in_hand, self.crew
        if standing is None:
            return (
                "" if crew is None else f"{workers(crew.up, self._wanted, crew.lost)}, no work yet"
            )
        return line(standing, now, 0 if in_hand is None else in_hand())
