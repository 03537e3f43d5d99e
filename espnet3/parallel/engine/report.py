"""What a worker says about a lease when it is done with it."""

import traceback
from dataclasses import dataclass

from espnet3.parallel.engine.coverage import Shard

LONGEST = 20_000  # characters of an exception's text that are kept
KILLED = "WorkerKilled"  # stands for an exception's name where a worker died
HUNG = "UnitTimeout"  # and where it was ended for being at one unit for too long


@dataclass(frozen=True)
class UnitFailure:
    """One unit whose `forward` (or record) failed.

    Attributes:
        first: first position of the unit.
        stop: one past its last position.
        utterance: the utterance's id, `#position` where the dataset knows none.
        step: the function that failed (`forward`, `write_record`); "" if nobody knows, as where
            the worker died.
        error: class name of the exception.
        message: its text.
        traceback: its formatted traceback.
        exception: the exception itself where it could be brought over, else None.
        log: the worker's log file, below the run directory; "" if it has none.
    """

    first: int
    stop: int
    utterance: str
    step: str
    error: str
    message: str
    traceback: str
    exception: BaseException | None = None
    log: str = ""

    @classmethod
    def of(
        cls, error: BaseException, first: int, stop: int, utterance: str, step: str, log: str = ""
    ) -> "UnitFailure":
        """Describe an exception that is being handled."""
        return cls(
            first=first,
            stop=stop,
            utterance=utterance,
            step=step,
            error=type(error).__name__,
            message=text_of(error)[:LONGEST],
            traceback=_traceback_of(error),
            exception=error,
            log=log,
        )


@dataclass(frozen=True)
class OutOfMemory:
    """A unit, or a part of one, that did not fit into memory and was done in parts.

    Attributes:
        n_items: that did not fit.
        cost: of these: items times the seconds of the longest, or `n_items`.
        n_fits: items of the largest part that did fit.
        fits: the highest cost of a part that did.
        are_seconds: costs are seconds of padded audio.
        device: that ran out of memory, in words; "" if unknown.
    """

    n_items: int
    cost: float
    n_fits: int
    fits: float
    are_seconds: bool
    device: str = ""


@dataclass(frozen=True)
class LeaseReport:
    """The outcome of one lease; every position of the lease is in exactly one part of it.

    Attributes:
        lease: the lease's number.
        next: positions from here to the lease's end were not touched.
        shard: what was committed, or None.
        redo: positions whose results were thrown away with their shard, to be dealt again.
        suspect: the unit whose record broke that shard, to be dealt again alone.
        unclosed: positions whose shard could not be closed, to be dealt again in halves.
        failure: the unit that failed, or None.
        fatal: a failure that other items would meet as well (a full disk): the run stops.
        poisoned: the unit in which a CUDA error made the worker's process useless, to be dealt
            again alone.
        cuda_error: after which the worker's process cannot go on; "" if there was none.
        memory: what the worker learned about how much fits into memory.
        worker: the worker's name.
        leaving: the worker ends, as it was told to or cannot go on, and takes no more leases.
    """

    lease: int
    next: int
    shard: Shard | None = None
    redo: tuple[int, int] | None = None
    suspect: tuple[int, int] | None = None
    unclosed: tuple[int, int] | None = None
    failure: UnitFailure | None = None
    fatal: UnitFailure | None = None
    poisoned: UnitFailure | None = None
    cuda_error: str = ""
    memory: OutOfMemory | None = None
    worker: str = ""
    leaving: bool = False


def text_of(error: BaseException) -> str:
    """The message of any exception, as a plain string."""
    try:
        return str.__str__(str(error))  # a subclass of str could not be sent
    except Exception:  # a class of the user's; its own failure must not hide the first one
        return "(its message cannot be shown)"


def _traceback_of(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]}\n...\n{text[-half:]}"
