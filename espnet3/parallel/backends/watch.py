"""Looks after the jobs of a cluster: replaces those that are gone, says what is waited for."""

import logging
import math
import re
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from distributed import SchedulerPlugin

from espnet3.parallel.backends.job import Submission, Submissions
from espnet3.parallel.backends.job_states import AskJobs, JobState
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.engine.progress import duration
from espnet3.parallel.worker.nanny import ENDED, ended

logger = logging.getLogger(__name__)

LOOK_EVERY = 5.0  # seconds between two questions to the scheduler, which many users ask
SUBMIT_AGAIN = 30.0  # seconds after which a refused job is submitted again
MISSED_LIMIT = 60.0  # seconds without its worker after which a job is given up if nobody can say
SETTLE = 2.0  # seconds that a scheduler may take to list a new job
LATE = 30.0  # seconds after which missing workers are told of though others are there
TELL_EVERY = 600.0  # seconds between two times
DEAD_AT_START = 3  # so many jobs in a row that end before their worker came stop the run
TAIL = 15  # lines of a log that are shown
SEARCHED = 100  # lines of a log in which a scheduler may have said how the job ended


class _Arrivals(SchedulerPlugin):
    """The names of all workers that have ever reached the driver, however soon they died."""

    name = "espnet3-arrivals"

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Called by Dask, on the scheduler's event loop."""
        self.names.add(scheduler.workers[worker].name)


class Watch(threading.Thread):
    """A thread that keeps a cluster at its number of workers.

    Beside what Dask gives it, the cluster has `log_directory`, `logs_of` a job, and `cancel` for
    jobs.

    Args:
        cluster: whose jobs they are.
        ask: the scheduler for their states; None if it cannot be asked.
        submissions: what became of each.
        config: how many workers there are to be.
        out_of_memory: what stands in the log of a job that was ended for its memory.

    Attributes:
        fatal: why no more workers will come; "" while all is well.
        minimum: so many are kept though nothing is there to do.
    """

    def __init__(
        self,
        cluster: Any,
        ask: AskJobs | None,
        submissions: Submissions,
        config: ParallelConfig,
        out_of_memory: re.Pattern[str] | None = None,
    ) -> None:
        super().__init__(name="espnet3-watch", daemon=True)
        self.fatal = ""
        self._cluster = cluster
        self._ask = ask
        self._submissions = submissions
        self._out_of_memory = out_of_memory
        self.minimum, self._maximum = config.bounds
        self._n_workers = config.n_at_first
        self._states: Mapping[str, JobState] | None = None
        self._dead_at_start = 0
        self._told: set[str] = set()
        self._tell_at = math.inf
        self._closed = threading.Event()
        self._arrivals = _Arrivals()
        cluster.loop.add_callback(cluster.scheduler.add_plugin, self._arrivals)

    def stop(self) -> None:
        """Submit nothing from now on."""
        self._closed.set()
        if self.is_alive():
            self.join(timeout=5.0)

    def run(self) -> None:
        """The thread."""
        while not self._closed.wait(LOOK_EVERY):
            try:
                self._look()
            except Exception:  # it is to go on as long as the run does
                logger.exception("looking after the jobs failed")

    def want(self, n_workers: int) -> None:
        """Keep so many workers from now on, within the bounds of the config.

        Jobs that are not needed any more and have brought no worker yet are cancelled. Workers that
        are there stay until they leave by themselves.
        """
        n_workers = min(self._maximum, max(self.minimum, n_workers))
        if n_workers != self._n_workers:
            self._n_workers = n_workers
            self._cluster.loop.add_callback(self._fit, [])

    def waited_for(self) -> str:
        """What holds the workers up that are not there, in words; "" if all are."""
        states, now = self._states or {}, time.monotonic()
        lines = []
        for job in list(self._submissions.jobs.values()):
            since = duration(now - job.at)
            if job.job_id is None:
                lines.append(f"a job was refused {since} ago: {job.refusal}")
            elif not self._is_there(job):
                state = states.get(job.job_id)
                lines.append(f"job {job.job_id} {state or 'submitted'} for {since}")
        more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
        return "; ".join(lines[:3]) + more

    def cancel_all(self) -> None:
        """Cancel all jobs without waiting for anything else."""
        self._closed.set()
        ids = [job.job_id for job in list(self._submissions.jobs.values()) if job.job_id]
        if ids:
            self._cluster.cancel(ids)

    def _is_there(self, job: Submission) -> bool:
        return job.name in self._cluster.scheduler.aliases

    def _look(self) -> None:
        now, missing, again = time.monotonic(), [], []
        for job in list(self._submissions.jobs.values()):
            if job.given_up:
                continue
            if job.name in self._arrivals.names and not job.joined:
                job.joined, self._dead_at_start = True, 0
            if self._is_there(job):
                job.missed_since, job.end_is_told = None, False
            elif job.job_id is None:
                self._tell_of_refusal(job.refusal)
                if now - job.at > SUBMIT_AGAIN:
                    again.append(job)
            else:
                job.missed_since = job.missed_since or now
                missing.append(job)
        asked = [job.job_id for job in missing if job.job_id and now - job.at > SETTLE]
        self._states = self._ask(asked) if self._ask is not None and asked else None
        again += [job for job in missing if job.job_id in asked and self._is_over(job, now)]
        self._tell_of_those_that_are_late(now)
        for job in again:
            job.given_up = True
        if again and not self.fatal:
            self._cluster.loop.add_callback(self._fit, again)

    def _tell_of_those_that_are_late(self, now: float) -> None:
        """While some workers are there; the driver tells of it where there are none."""
        late = self.waited_for()
        n_there = sum(self._is_there(job) for job in list(self._submissions.jobs.values()))
        if not late or not n_there:
            self._tell_at = math.inf
        elif self._tell_at == math.inf:
            self._tell_at = now + LATE
        elif now >= self._tell_at:
            self._tell_at = now + TELL_EVERY
            logger.info("%d of %d workers are there; %s", n_there, self._n_workers, late)

    def _tell_of_refusal(self, words: str) -> None:
        if words not in self._told:
            self._told.add(words)
            logger.warning(
                "a job was refused, and is submitted again every %.0f s: %s", SUBMIT_AGAIN, words
            )

    def _is_over(self, job: Submission, now: float) -> bool:
        """Whether a job whose worker is not there will not bring one any more."""
        if self._is_there(job):
            return False
        if self._states is None:  # nobody can say: a worker that was there may be starting again
            missed = now - (job.missed_since or now)
            return job.joined and missed > MISSED_LIMIT
        state = self._states.get(job.job_id or "")
        if job.joined and (state is None or state.over or state.pending):
            self._tell_of_its_end(job, state)
        if state is not None and not state.over:
            return False
        if job.joined:
            if len(self._submissions.jobs) <= self._n_workers:
                logger.warning(
                    "job %s (worker %s) is over; submitting another", job.job_id, job.name
                )
            else:
                logger.info("job %s (worker %s) has left", job.job_id, job.name)
            return True
        self._dead_at_start += 1
        logger.warning(
            "job %s ended before its worker had reached the driver%s", job.job_id, self._tail(job)
        )
        if self._dead_at_start >= min(DEAD_AT_START, self._n_workers + 1):
            self.fatal = (
                f"{self._dead_at_start} jobs in a row ended before their worker had reached the "
                f"driver at {self._cluster.scheduler_address}{self._tail(job)}"
            )
        return True

    async def _fit(self, over: Sequence[Submission]) -> None:
        """Drop jobs that are over or too many, submit those that are missing.

        Runs on the event loop, where the cluster's books are kept.
        """
        if self._closed.is_set():
            return
        specs = self._cluster.worker_spec
        too_many = len(specs) - len(over) - self._n_workers
        not_come = [name for name in reversed(specs) if name not in self._arrivals.names]
        dropped = [job.name for job in over]
        dropped += [name for name in not_come if name not in dropped][: max(0, too_many)]
        for name in dropped:
            specs.pop(name, None)
            self._submissions.forget(name)
        self._cluster.scale(max(self._n_workers, len(specs)))

    def _tell_of_its_end(self, job: Submission, state: JobState | None) -> None:
        """A job is over, or back in the queue; the nanny, which else tells, is gone with it.

        If it was for memory, the cause is most likely the item in hand, which is not to be tried
        for ever.
        """
        if job.end_is_told:
            return
        job.end_is_told = True
        status, how = None, f"ended with its job {job.job_id}"
        if (state and state.out_of_memory) or self._log_tells_of_memory(job):
            status, how = -signal.SIGKILL, f"{how}, which took more memory than it may"
        elif state is not None:
            how = f"{how}, {state}"
        scheduler = self._cluster.scheduler
        message = ended(job.name, status, how=how)
        scheduler.loop.add_callback(scheduler.log_event, ENDED, message)
        if state is not None and state.pending:
            logger.warning(
                "job %s (worker %s) is back in the queue: %s", job.job_id, job.name, state
            )

    def _log_tells_of_memory(self, job: Submission) -> bool:
        said = self._out_of_memory and "\n".join(self._log(job, SEARCHED))
        return bool(said and self._out_of_memory and self._out_of_memory.search(said))

    def _tail(self, job: Submission) -> str:
        directory, lines = self._cluster.log_directory, self._log(job, TAIL)[-TAIL:]
        if not lines:
            return f"; it left no log in {directory}"
        return f"; the end of its log in {directory}:\n" + "\n".join(f"  {x}" for x in lines)

    def _log(self, job: Submission, n_lines: int) -> list[str]:
        """The last lines of each file of what a job said."""
        lines: list[str] = []
        for path in self._cluster.logs_of(job.job_id):
            with suppress(OSError):
                lines += path.read_text(errors="replace").splitlines()[-n_lines:]
        return lines
