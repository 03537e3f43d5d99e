"""What driver and workers say to each other, as bytes that survive any exception class."""

import pickle
from array import array
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle

from espnet3.errors import ConfigError, EnvBuildError, ESPnet3Error, RunStopped
from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.report import LeaseReport, UnitFailure


class WorkerTraceback(Exception):
    """Stands for an exception in a worker; its text is the traceback there."""


def pull_operation(token: str) -> str:
    """Name of the scheduler's operation that workers of that run pull leases with."""
    return f"espnet3_pull_{token}"


def drain_operation(token: str) -> str:
    """Name of the workers' operation that tells those of that run to drain."""
    return f"espnet3_drain_{token}"


@dataclass(frozen=True)
class Hello:
    """A worker has built its env and asks for its first lease.

    Attributes:
        name: of the worker.
        marker: path of its in-flight marker.
        pid: of its process.
        log: its log file, below the run directory.
        host: where it is.
        job: the id of its batch job; "" if it is in none.
        env_seconds: how long it took to have its env.
        device: its GPU, in words; "" if it has none that is known.
    """

    name: str
    marker: str
    pid: int
    log: str
    host: str = ""
    job: str = ""
    env_seconds: float = 0.0
    device: str = ""


@dataclass(frozen=True)
class EnvFailed:
    """A worker could not build its env."""

    name: str
    error: str
    traceback: str
    is_config: bool = False
    """What was built does not fit, or is nothing that can be: the user's to correct."""
    is_stop: bool = False
    """It is not the env: the worker cannot work in the run directory (a full disk)."""
    device: str = ""

    @property
    def where(self) -> str:
        """The worker, with its GPU."""
        return f"worker {self.name}{f' ({self.device})' if self.device else ''}"

    def as_exception(self, provider: str) -> ESPnet3Error:
        """What ends a run where no worker could build it.

        Args:
            provider: the class that was to.
        """
        if self.is_config:
            return ConfigError(self.error)
        if self.is_stop:
            return RunStopped(self.error)
        what = f"{provider} could not build its env in {self.where}: {self.error}"
        error = EnvBuildError(what)
        error.__cause__ = WorkerTraceback(self.traceback)
        return error


@dataclass(frozen=True)
class Work:
    """A lease with its items."""

    lease: Lease
    items: Any
    seconds: "array[float] | None" = None
    """Of audio in each of them, where that is known and of use."""


Message = Hello | EnvFailed | LeaseReport


def dump_message(message: Message) -> bytes:
    """Pickle what a worker says; exceptions go apart, as they may refuse to be read again."""
    dumped: dict[str, bytes] = {}
    if isinstance(message, LeaseReport):
        for part in ("failure", "fatal", "poisoned"):
            failure: UnitFailure | None = getattr(message, part)
            if failure is not None:
                dumped[part] = _dump_exception(failure.exception)
                message = _with_exception(message, part, None)
    return pickle.dumps((message, dumped))


def load_message(data: bytes) -> Message:
    """The inverse of `dump_message`; an exception that cannot be read is None."""
    message: Message
    message, dumped = pickle.loads(data)
    for part, exception in dumped.items():
        error = _load_exception(exception)
        if error is not None and error.__traceback__ is None:
            error.add_note(f"in the worker:\n{getattr(message, part).traceback}")
        message = _with_exception(message, part, error)
    return message


def _with_exception(message: Any, part: str, error: BaseException | None) -> LeaseReport:
    failure = replace(getattr(message, part), exception=error)
    report: LeaseReport = replace(message, **{part: failure})
    return report


def _dump_exception(error: BaseException | None) -> bytes:
    try:
        return bytes(cloudpickle.dumps(error))
    except Exception:  # anything may hang on an exception: sockets, generators, locks
        return b""


def _load_exception(data: bytes) -> BaseException | None:
    try:
        error = pickle.loads(data)
    except Exception:  # a class whose __init__ takes other arguments cannot be made again
        return None
    return error if isinstance(error, BaseException) else None
