"""A worker's log file: what it says, in Python or below it, while it works for a run."""

import faulthandler
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from espnet3.parallel.engine.files import LOGS, WORKER_LOG
from espnet3.parallel.worker.stack import DUMP_SIGNAL

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
JOB_ID_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "OAR_JOB_ID", "JOB_ID")
"""Where batch schedulers tell a job its id."""


def log_name(worker: str) -> str:
    """Path of a worker's log below the run directory.

    Args:
        worker: the name that it keeps when its process is replaced; the file then goes on.
    """
    return f"{LOGS}/{WORKER_LOG.format(name=worker)}"


@contextmanager
def own_log(run_dir: Path, worker: str) -> Iterator[str]:
    """Let all that this process prints, logs (from INFO on) or dies of go to its log.

    File descriptors 1 and 2 lead there, so that C libraries and child processes are covered. At
    `DUMP_SIGNAL` the Python stacks of all threads go there.
    Yields the file's path below `run_dir`; "" if it cannot be written, which is no reason to stop.
    """
    name = log_name(worker)
    try:
        log = os.open(run_dir / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:
        yield ""
        return
    before = [(fd, os.dup(fd)) for fd in (1, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    level = root.level
    try:
        for fd in (1, 2):
            os.dup2(log, fd)
        with suppress(OSError):  # a full disk
            os.write(log, _header(worker))
        faulthandler.enable(2)
        faulthandler.register(DUMP_SIGNAL, 2)
        if not root.handlers:
            root.addHandler(handler)
            root.setLevel(logging.INFO)
        with suppress(AttributeError):  # it was replaced by something else
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        yield name
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        faulthandler.unregister(DUMP_SIGNAL)
        faulthandler.disable()
        if handler in root.handlers:
            root.removeHandler(handler)
            root.setLevel(level)
        for fd, old in before:
            os.dup2(old, fd)
            os.close(old)
        os.close(log)


def job_id() -> str:
    """The id of the batch job that this process is in; "" if it is in none that says it."""
    return next((os.environ[name] for name in JOB_ID_VARIABLES if name in os.environ), "")


def _header(worker: str) -> bytes:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    job = f"job {job_id()}, " if job_id() else ""
    where = f"on {os.uname().nodename}, {job}pid {os.getpid()}"
    return f"--- {now} worker {worker} {where}\n".encode()
