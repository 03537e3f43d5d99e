"""Jobs of a cluster: each is submitted once, and what the scheduler answers is kept."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from espnet3.parallel.backends.jobqueue import cluster_class

AT_ONCE = 8  # submissions side by side


@dataclass
class Submission:
    """What became of one job.

    Attributes:
        name: of its worker.
        job_id: the scheduler's; None if the job was refused.
        refusal: the scheduler's own words; "" if the job was accepted.
        at: when it answered (monotonic seconds).
        joined: its worker was there at some time.
        missed_since: since when its worker is not there (monotonic seconds); None if it is.
        end_is_told: the driver knows that the job took its worker with it.
        given_up: another one is submitted in its place, if one is needed.
    """

    name: str
    job_id: str | None
    refusal: str
    at: float
    joined: bool = False
    missed_since: float | None = None
    end_is_told: bool = False
    given_up: bool = False


class Submissions:
    """The jobs of a cluster by worker name. Written on the event loop, read anywhere."""

    def __init__(self) -> None:
        self.jobs: dict[str, Submission] = {}
        self.n_accepted = 0
        self.gate = asyncio.Semaphore(AT_ONCE)
        self._answered = threading.Condition()

    def answer(self, name: str, job_id: str | None, refusal: str = "") -> None:
        """A job was accepted, or refused."""
        with self._answered:
            self.jobs[name] = Submission(name, job_id, refusal, time.monotonic())
            self.n_accepted += job_id is not None
            self._answered.notify_all()

    def forget(self, name: str) -> None:
        """A job is over."""
        self.jobs.pop(name, None)

    def refusals(self) -> list[str]:
        """What the scheduler says about the jobs that it refused."""
        return [job.refusal for job in list(self.jobs.values()) if job.job_id is None]

    def wait(self, n_jobs: int) -> None:
        """Return when one job was accepted, or all of `n_jobs` were refused."""
        with self._answered:
            while not self.n_accepted and len(self.jobs) < n_jobs:
                self._answered.wait(1.0)  # with a timeout, so that signals are seen


class _Job:
    """Laid over a Job class of dask-jobqueue."""

    submissions: Submissions

    # Declared by dask-jobqueue.
    name: str
    job_id: str | None
    submit_command: str
    use_stdin: bool
    _call: Callable[..., Any]

    @property
    def worker_process_threads(self) -> int:
        # A worker does one item at a time; the cores are for what is below it.
        return 1

    async def start(self) -> None:
        async with self.submissions.gate:
            try:
                await super().start()  # type: ignore[misc]
            except (RuntimeError, ValueError, OSError) as error:
                # Raised here, it would go to a log that nobody reads, and closing would fail.
                from distributed.deploy.spec import ProcessInterface

                await ProcessInterface.start(self)  # type: ignore[arg-type]
                self.submissions.answer(self.name, None, _words(error))
            else:
                self.submissions.answer(self.name, self.job_id)

    async def _submit_job(self, script: str) -> Any:
        if getattr(self, "use_stdin", False):  # Dask's class throws away what bsub says
            return await self._call([f"{self.submit_command} < {script}"], shell=True)
        return await super()._submit_job(script)  # type: ignore[misc]


def job_class(env: str, submissions: Submissions | None) -> Any:
    """The Job class of a scheduler, which tells `submissions` what becomes of each job."""
    base = cluster_class(env).job_cls
    return type(base.__name__, (_Job, base), {"submissions": submissions})


def _words(error: BaseException) -> str:
    """What a command said, without what dask-jobqueue wraps around it."""
    _, found, stderr = str(error).partition("stderr:\n")
    return stderr.strip() or str(error).strip() if found else str(error).strip()
