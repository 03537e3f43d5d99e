"""Runs on the Slurm of `labs/slurm.sh`, and what it and they say."""

import json
import re
import subprocess

from workloads import notes

OPTIONS = {"memory": "500MB", "interface": "lo", "walltime": "10"}


def slurm(n_workers=2, **keys):
    options = {**OPTIONS, **keys.pop("options", {})}
    return {
        "env": "slurm",
        "n_workers": n_workers,
        "options": {key: value for key, value in options.items() if value is not None},
        **keys,
    }


def call(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def queue(state=None):
    """Ids of our jobs that are pending or running; Slurm shows those that end a moment longer."""
    states = state or "PENDING,RUNNING,SUSPENDED"
    return call("squeue", "-h", "-o", "%i", "-t", states).split()


def node_of(job):
    """The node that a job runs on."""
    return call("squeue", "-h", "-j", job, "-o", "%N").strip()


def sbatch(*options, wrap="sleep 600"):
    """Submit somebody else's job; returns its id."""
    who = ("--uid=nobody", "--chdir=/tmp", "--output=/dev/null")
    return call("sbatch", "--parsable", *who, *options, "--wrap", wrap).strip()


def pid_of(item, log):
    """The process that has an item in hand."""
    lines = [line.split() for line in notes(log, "forwards")]
    return next(pid for number, pid in lines if number == str(item))


def job_of(out, item, log):
    """The job whose worker has an item in hand."""
    for path in (out / "logs").glob("worker.*.log"):
        jobs = {pid: job for job, pid in re.findall(r"job (\d+), pid (\d+)", path.read_text())}
        if pid_of(item, log) in jobs:
            return jobs[pid_of(item, log)]
    raise AssertionError(f"no worker's log tells of item {item}")


def killed_positions(out):
    lines = [line for path in out.glob("ledger.*.jsonl") for line in path.read_text().splitlines()]
    return [line for line in map(json.loads, lines) if line.get("kind") in ("killed", "failed")]
