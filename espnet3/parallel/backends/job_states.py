"""What a scheduler says about our jobs."""

import getpass
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from espnet3.parallel.backends import asking

SGE_LATE = 16.0  # seconds after a job that its accounting may come; by default, up to 15
SGE_PATIENCE = 5.0  # seconds for a look into the accounting; where it takes longer, it is the last


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

_SLURM_OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
}


def slurm_jobs(job_ids: Sequence[str]) -> dict[str, JobState] | None:
    """See `AskJobs`."""
    command = ["squeue", "-h", "-t", "all", "-j", ",".join(job_ids), "-o", "%i|%T|%r"]
    out = asking.answer(command, gone="Invalid job id")
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


class SgeJobs:
    """See `AskJobs`. How a job has ended stands in the accounting, a while after it."""

    def __init__(self) -> None:
        self._missed: dict[str, float] = {}
        self._is_asked = True

    def __call__(self, job_ids: Sequence[str]) -> dict[str, JobState] | None:
        out = asking.answer(["qstat", "-u", getpass.getuser()])
        if out is None:
            return None
        jobs = {}
        for line in out.splitlines():
            fields = line.split()
            if len(fields) > 4 and fields[0] in job_ids:
                state = fields[4]
                reason = "the job could not be started; see `qstat -j`" if "E" in state else ""
                jobs[fields[0]] = JobState("q" in state, state, reason)
        for job_id in job_ids:
            end = None if job_id in jobs else self._end_of(job_id)
            if end is not None:
                jobs[job_id] = end
        return jobs

    def _end_of(self, job_id: str) -> JobState | None:
        began = time.monotonic()
        if not self._is_asked or began - self._missed.setdefault(job_id, began) > SGE_LATE:
            return None
        out = asking.answer(["qacct", "-j", job_id], gone="not found")
        # The accounting of years may be one file, and not every host has it.
        self._is_asked = out is not None and time.monotonic() - began < SGE_PATIENCE
        if out is None:
            return None
        fields: dict[str, str] = dict(re.findall(r"^(\w+) +(\S.*?) *$", out, re.MULTILINE))
        return _ended_in_sge(fields) if fields else JobState(False, "ended")


def _ended_in_sge(account: dict[str, str]) -> JobState:
    # `37  : qmaster enforced h_rt, h_cpu, or h_vmem limit`
    code, _, why = account.get("failed", "").partition(":")
    asked = re.search(r"\bh_vmem=([\d.]+\w?)", account.get("category", ""))
    limit = _sge_bytes(asked[1]) * int(account.get("slots", 1)) if asked else float("inf")
    oom = code.strip() == "37" and _sge_bytes(account.get("maxvmem", "0")) > limit
    return JobState(False, "ended", why.strip(), over=True, out_of_memory=oom)


def _sge_bytes(text: str) -> float:
    """How much `644.055MB` (accounting) or `400M` (request) is; there k is 1000 and K is 1024."""
    match = re.match(r"([\d.]+)([kKmMgGtT]?)", text)
    if match is None:
        return 0.0
    power = " kmgt".index(match[2].lower() or " ")
    return float(match[1]) * float((1000 if match[2] in tuple("kmgt") else 1024) ** power)


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
    # The format with what OAR says about a job.
    out = asking.answer(["oarstat", "--format", "2", "-u"])
    if out is None:
        return None
    jobs = {}
    for line in out.splitlines():
        job_id, state, _, _, reason = [*line.split(None, 4), *[""] * 5][:5]
        if job_id in job_ids and state in _OAR_STATES:
            jobs[job_id] = JobState(state in "WLH", _OAR_STATES[state], reason)
    return jobs


_PBS_STATES = {
    "Q": "queued",
    "H": "held",
    "W": "waiting",
    "T": "in transit",
    "R": "running",
    "S": "suspended",
    "U": "suspended",
    "E": "exiting",
    "C": "completed",
    "F": "finished",
}


def pbs_jobs(job_ids: Sequence[str]) -> dict[str, JobState] | None:
    """See `AskJobs`. Of PBS and Torque, which share this format and, but for it, little."""
    # Not `-x`: to PBS it is the history, which most have off; to Torque it is XML.
    out = asking.answer(["qstat", "-f", *job_ids], gone=r"Unknown Job Id|Job has finished")
    if out is None:
        return None
    jobs = {}
    # Long values go on in the next line.
    for text in re.split(r"^Job Id: ", out.replace("\n\t", ""), flags=re.MULTILINE)[1:]:
        job_id = text.partition("\n")[0].partition(".")[0].strip()
        fields: dict[str, str] = dict(re.findall(r"^ {4}(\w+) = (.*)$", text, re.MULTILINE))
        state = fields.get("job_state", "")
        pending = state in ("Q", "H", "W", "T")
        reason = fields.get("comment", "") if pending else ""
        jobs[job_id] = JobState(
            pending, _PBS_STATES.get(state, state), reason, over=state in ("C", "F")
        )
    return jobs


def lsf_jobs(job_ids: Sequence[str]) -> dict[str, JobState] | None:
    """See `AskJobs`."""
    command = ["bjobs", "-a", "-o", "jobid stat pend_reason exit_reason", "-json", *job_ids]
    out = asking.answer(command, gone="is not found")
    records = _json(out, "RECORDS")
    if records is None:
        return None
    jobs = {}
    for record in records:
        if "STAT" not in record:  # an ERROR, as "Job <7> is not found"
            continue
        word, why = record["STAT"], record.get("EXIT_REASON", "")
        pending = word in ("PEND", "PSUSP", "PROV", "WAIT")
        jobs[record["JOBID"]] = JobState(
            pending,
            word.lower(),
            (record.get("PEND_REASON", "") if pending else why).strip(" ;-"),
            over=word in ("DONE", "EXIT"),
            out_of_memory=why.startswith("TERM_MEMLIMIT"),
        )
    return jobs


_CONDOR_STATES = {
    1: "idle",
    2: "running",
    3: "removed",
    4: "completed",
    5: "held",
    6: "transferring output",
    7: "suspended",
}
_CONDOR_MEMORY = {(34, 102), (21, 102)}
"""Codes of a hold by the kernel's limit, and by the policy that HTCondor comes with for it."""


def htcondor_jobs(job_ids: Sequence[str]) -> dict[str, JobState] | None:
    """See `AskJobs`. A job that is held for its memory is over: started again, it ends alike."""
    attributes = "ClusterId,ProcId,JobStatus,HoldReason,HoldReasonCode,HoldReasonSubCode"
    command = ["condor_q", *job_ids, "-json", "-attributes", f"{attributes},LastRejMatchReason"]
    records = _json(asking.answer(command))
    if records is None:
        return None
    jobs = {}
    for record in records:
        status = record["JobStatus"]
        codes = record.get("HoldReasonCode"), record.get("HoldReasonSubCode")
        oom = status == 5 and codes in _CONDOR_MEMORY
        why = {1: "LastRejMatchReason", 5: "HoldReason"}.get(status, "")
        jobs[f"{record['ClusterId']}.{record['ProcId']}"] = JobState(
            status in (1, 5) and not oom,
            _CONDOR_STATES.get(status, f"in status {status}"),
            str(record.get(why, "")).strip(),
            over=oom or status in (3, 4),
            out_of_memory=oom,
        )
    return jobs


def moab_jobs(job_ids: Sequence[str]) -> dict[str, JobState] | None:
    """See `AskJobs`."""
    out = asking.answer(["showq", "--xml", "-w", f"user={getpass.getuser()}"])
    try:
        data = ElementTree.fromstring(out or "")
    except ElementTree.ParseError:  # an error, in words
        return None
    if data.findtext("Object") != "queue":
        return None
    jobs = {}
    for queue in data.iter("queue"):
        part = queue.get("option", "")  # active, eligible or blocked
        for job in queue.iter("job"):
            word = job.get("State", "").lower()
            state = JobState(part != "active", word, part if part == "blocked" else "")
            # What was submitted as `Moab.7` has another id once the resource manager has it.
            for job_id in (job.get("GJID", ""), job.get("JobID", "")):
                number = job_id.rpartition(".")[2]
                if number in job_ids:
                    jobs[number] = state
    return jobs


def _json(text: str | None, key: str | None = None) -> list[Any] | None:
    """A list in JSON, or a member of an object that is one. No text is an empty one."""
    if text is None or not text.strip():
        return None if text is None else []
    try:
        found = json.loads(text)
        return list(found[key]) if key is not None else list(found)
    except (ValueError, TypeError, KeyError):
        return None
