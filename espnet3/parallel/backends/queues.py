"""What a scheduler says about its queues and about our jobs there."""

import getpass
import logging
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

logger = logging.getLogger(__name__)

ANSWER_LIMIT = 60.0  # seconds that a scheduler may take to answer

NO_LIMIT = "no limit"
"""A queue's longest walltime where it has none."""


@dataclass(frozen=True)
class JobState:
    """A job as its scheduler lists it.

    Attributes:
        pending: it has not started.
        word: the scheduler's own word for its state.
        reason: why it is in that state; "" if the scheduler does not say.
    """

    pending: bool
    word: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.word} ({self.reason})" if self.reason else self.word


AskJobs = Callable[[Sequence[str]], dict[str, JobState] | None]
"""Those of some jobs that are still there; None if nobody could say."""


def slurm_queues() -> list[str] | None:
    """The names of all partitions; None if nobody could say."""
    out = _ask(["sinfo", "-h", "-o", "%R"])
    return None if out is None else out.split()


def sge_queues() -> list[str] | None:
    """The names of all cluster queues; None if nobody could say."""
    out = _ask(["qconf", "-sql"])
    return None if out is None else out.split()


def slurm_limit(queue: str | None) -> str | None:
    """The longest walltime of a partition, of the default one if none is named."""
    out = _ask(["sinfo", "-h", "-o", "%P|%l", *(["-p", queue] if queue else [])])
    for line in (out or "").splitlines():  # several if several were named
        name, _, limit = line.partition("|")
        if queue or name.endswith("*"):
            return NO_LIMIT if limit == "infinite" else limit
    return None


def sge_limit(queue: str | None) -> str | None:
    """The longest walltime of a cluster queue; a job without a queue may land in any of them."""
    if queue is None:
        return None
    match = re.search(r"^h_rt\s+(\S+)", _ask(["qconf", "-sq", queue]) or "", re.MULTILINE)
    if match is None:
        return None
    return NO_LIMIT if match[1].upper() == "INFINITY" else match[1]


def slurm_jobs(job_ids: Sequence[str]) -> dict[str, JobState] | None:
    """See `AskJobs`."""
    out = _ask(["squeue", "-h", "-j", ",".join(job_ids), "-o", "%i|%T|%r"], gone="Invalid job id")
    if out is None:
        return None
    jobs = {}
    for line in out.splitlines():
        job_id, word, reason = line.split("|", 2)
        reason = "" if reason == "None" else reason
        jobs[job_id] = JobState(word == "PENDING", word.lower(), reason)
    return jobs


def sge_jobs(job_ids: Sequence[str]) -> dict[str, JobState] | None:
    """See `AskJobs`."""
    out = _ask(["qstat", "-u", getpass.getuser()])
    if out is None:
        return None
    jobs = {}
    for line in out.splitlines():
        fields = line.split()
        if len(fields) > 4 and fields[0] in job_ids:
            state = fields[4]
            reason = "the job could not be started; see `qstat -j`" if "E" in state else ""
            jobs[fields[0]] = JobState("q" in state, state, reason)
    return jobs


_OAR_STATES = {
    "W": "waiting",
    "L": "launching",
    "H": "on hold",
    "R": "running",
    "S": "suspended",
    "F": "finishing",
}


def oar_jobs(job_ids: Sequence[str]) -> dict[str, JobState] | None:
    """See `AskJobs`."""
    out = _ask(["oarstat", "--format", "2", "-u"])  # the format with what OAR says about a job
    if out is None:
        return None
    jobs = {}
    for line in out.splitlines():
        job_id, state, _, _, reason = [*line.split(None, 4), *[""] * 5][:5]
        if job_id in job_ids and state in _OAR_STATES:
            jobs[job_id] = JobState(state in "WLH", _OAR_STATES[state], reason)
    return jobs


def _ask(command: Sequence[str], gone: str | None = None) -> str | None:
    """A command's output; None if it failed, but "" if it failed with the words `gone`."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.debug("%s: %s", command[0], error)
        return None
    if done.returncode == 0:
        return done.stdout
    if gone is not None and gone in done.stderr:
        return ""
    logger.debug("%s: %s", command[0], done.stderr.strip())
    return None
