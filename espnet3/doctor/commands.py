"""Whether the commands of the configured backend are there and answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet3.doctor.finding import Finding, Level, ok, problem, warning
from espnet3.errors import ConfigError
from espnet3.parallel.backends import asking
from espnet3.parallel.backends.preview import starts
from espnet3.parallel.config import ParallelConfig, RunConfig
from espnet3.parallel.config_check import LOCAL

PATIENCE = 15.0
"""Seconds that a command may take to answer: a run that asks for more waits for it all the time."""

SLOW = 5.0
"""Seconds after which an answer is slow: it is asked for every few seconds."""


@dataclass(frozen=True)
class Commands:
    """What is asked of a scheduler.

    Attributes:
        version: a command that tells its version.
        answers: one that the scheduler itself must answer; its status is 0 if it did.
        others: more programs that runs use.
    """

    version: Sequence[str]
    answers: Sequence[str]
    others: Sequence[str] = ()


SCHEDULERS: dict[str, Commands] = {
    "slurm": Commands(("sbatch", "--version"), ("squeue", "-h", "-o", "%i"), ("scancel", "sinfo")),
    "pbs": Commands(("qsub", "--version"), ("qstat", "-Q"), ("qdel",)),
    "sge": Commands(("qstat", "-help"), ("qstat",), ("qsub", "qdel", "qconf", "qacct")),
    "lsf": Commands(("bsub", "-V"), ("bqueues",), ("bkill", "bjobs")),
    "htcondor": Commands(("condor_version",), ("condor_q",), ("condor_submit", "condor_rm")),
    "moab": Commands(("msub", "--version"), ("showq",), ("canceljob",)),
    "oar": Commands(("oarsub", "--version"), ("oarstat",), ("oardel",)),
}


def look(parallel: ParallelConfig) -> Iterator[Finding]:
    """Check what the backend submits jobs with, and asks about them."""
    if parallel.env in LOCAL:
        return
    if parallel.env == "ssh":
        yield from _ssh(parallel.options)
    elif parallel.env == "kube":
        yield _kube(parallel.options)
    else:
        found = list(_scheduler(SCHEDULERS[parallel.env]))
        yield from found
        if all(finding.level is not Level.PROBLEM for finding in found):
            yield _job(parallel)


def _job(parallel: ParallelConfig) -> Finding:
    """Whether the scheduler would take the job, as far as it can be asked without submitting."""
    try:
        for start in starts(parallel, RunConfig(), Path("logs").absolute()):
            return ok("job", start.what)
    except ConfigError as error:
        return problem("job", str(error), "change that option")
    return ok("job", "nothing is submitted")


def _scheduler(commands: Commands) -> Iterator[Finding]:
    programs = (commands.version[0], commands.answers[0], *commands.others)
    missing = [name for name in dict.fromkeys(programs) if shutil.which(name) is None]
    if missing:
        yield problem(
            "scheduler commands",
            f"not on the PATH of {os.uname().nodename}: {', '.join(missing)}",
            "start runs on a host that jobs are submitted from, or load the module that has them",
        )
    for what, command in (("version", commands.version), ("answer", commands.answers)):
        if command[0] not in missing:
            yield _ask(f"scheduler {what}", command, "the scheduler's own service may be down")


def _ask(check: str, command: Sequence[str], why: str) -> Finding:
    words = " ".join(command)
    try:
        seconds, done = _timed(command)
    except subprocess.TimeoutExpired:
        return problem(check, f"`{words}` did not end within {PATIENCE:g} s", f"{why}: try it")
    except OSError as error:
        return problem(check, f"`{words}` cannot be run: {error}", "have it mended")
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    if done.returncode:
        last = done.stderr.strip() or done.stdout.strip() or "nothing"
        seen = f"`{words}` ended with status {done.returncode} and said: {last}"
        return problem(check, seen, why)
    seen = f"`{words}` answered after {seconds:.1f} s"
    if check.endswith("version") and said:
        seen = f"{said[0]} (`{words}`)"
    if seconds > SLOW:
        return warning(check, seen, "what is waited for will be told late")
    return ok(check, seen)


def _timed(command: Sequence[str]) -> tuple[float, subprocess.CompletedProcess[str]]:
    began = time.monotonic()
    done = asking.run(command, limit=PATIENCE)
    return time.monotonic() - began, done


def _ssh(options: Mapping[str, Any]) -> Iterator[Finding]:
    from espnet3.parallel.backends.ssh_options import DEFAULTS

    command = str(options.get("ssh_command") or DEFAULTS["ssh_command"]).split()
    if shutil.which(command[0]) is None:
        seen = f"{command[0]} is not on the PATH"
        yield problem("ssh", seen, "install OpenSSH's client, or set parallel.options.ssh_command")
        return
    yield _ask("ssh version", [command[0], "-V"], "have it mended")
    why = "`ssh HOST true` must work without a question: keys, known_hosts, ~/.ssh/config"
    for host in dict.fromkeys(options.get("hosts") or ()):
        yield _ask(f"ssh {host}", [*command, host, "true"], why)


def _kube(options: Mapping[str, Any]) -> Finding:
    check = "Kubernetes"
    try:
        from espnet3.parallel.backends.kube_api import reach
        from espnet3.parallel.backends.kube_options import DEFAULTS

        return ok(check, reach({**DEFAULTS, **options}))
    except ImportError:
        return problem(check, "its client library is missing", "pip install 'espnet3[kube]'")
    except ConfigError as error:
        return problem(check, str(error), "`kubectl get pods` must work with the same kubeconfig")
