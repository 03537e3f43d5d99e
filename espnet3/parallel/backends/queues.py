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
        over: it has ended, and is listed all the same.
        out_of_memory: it was ended because it took more than it may.
    """

    pending: bool
    word: str
    reason: str = ""
    over: bool = False
    out_of_memory: bool = False

    def __str__(self) -> str:
        return f"{self.word} ({self.reason})" if self.reason else self.word


AskJobs = Callable[[Sequence[str]], dict[str, JobState] | None]
"""The states of some jobs; one that is not listed is over. None if nobody could say."""

OUT_OF_MEMORY = re.compile(r"^slurmstepd\S*: error: .*exceeded memory limit", re.MULTILINE)
"""What stands in the log of a job that was ended for its memory, if its state does not say so.

Slurm calls it FAILED where it watches memory itself (`OverMemoryKill`), without cgroups.
"""

_SLURM_OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
}


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
    command = ["squeue", "-h", "-t", "all", "-j", ",".join(job_ids), "-o", "%i|%T|%r"]
    out = _ask(command, gone="Invalid job id")
    if out is None:
        return None
    jobs = {}
    for line in out.splitlines():
        job_id, word, reason = line.split("|", 2)
        reason = "" if reason == "None" else reason
        jobs[job_id] = JobState(
            word == "PENDING",
            word.lower(),
            reason,
            over=word in _SLURM_OVER,
            out_of_memory=word == "OUT_OF_MEMORY",
        )
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
