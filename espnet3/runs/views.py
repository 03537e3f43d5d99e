"""What a look at a run gives: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class OwnerView:
    """The driver that has a run, or had it when it died.

    Attributes:
        host: where it is.
        pid: of its process, on that host.
        started: its local time at the start.
        command: its command line, shortened.
        here: it is on this host, so that its life can be told for sure.
        seconds: since its last heartbeat, by the clock of this host; None if that is unknown.
        suspended: it was stopped, by Ctrl-Z for example.
    """

    host: str
    pid: int | None
    started: str
    command: str
    here: bool
    seconds: float | None
    suspended: bool = False


@dataclass(frozen=True)
class WorkerView:
    """A worker process of the last start.

    Attributes:
        name: its name and its pid, `name.pid`; `driver` where the driver did the work itself.
        host: where it is.
        pid: of its process, on that host.
        job: the id of its batch job; "" if it is in none.
        state: `building env`, `working`, `idle`, `useless`, `lost`, `left`, or `gone` where the
            driver is.
        why: what is known of its loss, or of why it is of no use.
        env_seconds: how long it took to build its env; None if it has none yet.
        first: first place of the lease in hand in the run's order; None if it has none.
        stop: one past the last place of that.
        position: of the unit in hand; None if it has begun none.
        utterance: the name of that; `#position` where nobody has named it.
        since: unix seconds of what it does now.
        last_sign: unix seconds of the last that was heard of it: a report, or a line in its log.
        done: positions that it has finished.
        forward_seconds: in `forward`, for these.
        n_failed: units that failed in it.
        log: its log file below the run directory; "" if it has none.
    """

    name: str
    host: str = ""
    pid: int = 0
    job: str = ""
    state: str = "building env"
    why: str = ""
    env_seconds: float | None = None
    first: int | None = None
    stop: int | None = None
    position: int | None = None
    utterance: str = ""
    since: float = 0.0
    last_sign: float = 0.0
    done: int = 0
    forward_seconds: float = 0.0
    n_failed: int = 0
    log: str = ""


@dataclass(frozen=True)
class FailedItem:
    """An item that failed and has not been done since.

    Attributes:
        position: its position.
        utterance: its name.
        step: the function that failed; "" if unknown.
        error: class name of the exception, or `WorkerKilled`, `UnitTimeout`.
        message: what it said, shortened.
        log: the worker's log file below the run directory; "" if unknown.
        kills: how many workers died in it.
    """

    position: int
    utterance: str
    step: str
    error: str
    message: str
    log: str = ""
    kills: int = 0


@dataclass(frozen=True)
class SlowItem:
    """A unit that took long.

    Attributes:
        positions: of its items; with batches by length they are no neighbours.
        utterance: the name of its first item.
        seconds: in `forward`.
        audio: seconds of audio in it; None if unknown.
    """

    positions: tuple[int, ...]
    utterance: str
    seconds: float
    audio: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        run_dir: the run directory.
        time: unix seconds of the look.
        state: `planning`, `waiting` (for workers), `running`, `draining`, `merging`, `done`,
            `failed` (ended with an error), `stopped` (was asked to, or ended without a word), or
            `dead` (its driver is gone, without having ended).
        reason: why, in words; "" if there is nothing to say.
        run_id: of its manifest.
        epoch: number of the last start.
        owner: the driver, while there is one or a dead one has not been taken over.
        backend: where the last start ran (`local`, `slurm`, ...); "" if unknown.
        n_workers: that it asked for; None if unknown.
        command: command line of the last start, secrets masked.
        working_directory: that it was given in; "" if unknown.
        python: the interpreter; "" if unknown.
        versions: of packages, by name.
        n_items: items of the run.
        goal: items that are to be done (fewer, with a `limit`).
        done: items with committed results, of which the results may have been removed since.
        failed: items that failed.
        left: items that are neither.
        done_before: items that were done before the last start.
        audio: seconds of audio of all; None if unknown.
        audio_done: seconds of audio of those that are done; None if unknown.
        forward_seconds: seconds in `forward`, for those that are done.
        split: items that were not done in the unit that the plan gives them.
        memory: what is known of batches that did not fit into memory; "" if all did.
        began: unix seconds of the last start; None if unknown.
        work_began: of its first lease.
        ended: of its end; None while it has not ended, or if unknown.
        last_event: unix seconds of the last that the driver logged; None if it logged nothing.
        rate: items per second of the last start; None before anything was measured.
        audio_rate: seconds of audio per second, likewise.
        rtf: seconds in `forward` per second of audio, over all that is done.
        eta: seconds that are left; None if unknown.
        workers: of the last start.
        failures: items that failed, by position.
        slowest: the slowest units, slowest first.
        disk_bytes: what the directory holds; None if it was not asked for.
        disk_files: how many files that is.
    """

    run_dir: Path
    time: float
    state: str
    reason: str = ""
    run_id: str = ""
    epoch: int = 0
    owner: OwnerView | None = None
    backend: str = ""
    n_workers: int | None = None
    command: tuple[str, ...] = ()
    working_directory: str = ""
    python: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    n_items: int = 0
    goal: int = 0
    done: int = 0
    failed: int = 0
    left: int = 0
    done_before: int = 0
    audio: float | None = None
    audio_done: float | None = None
    forward_seconds: float = 0.0
    split: int = 0
    memory: str = ""
    began: float | None = None
    work_began: float | None = None
    ended: float | None = None
    last_event: float | None = None
    rate: float | None = None
    audio_rate: float | None = None
    rtf: float | None = None
    eta: float | None = None
    workers: tuple[WorkerView, ...] = ()
    failures: tuple[FailedItem, ...] = ()
    slowest: tuple[SlowItem, ...] = ()
    disk_bytes: int | None = None
    disk_files: int | None = None

    @property
    def is_live(self) -> bool:
        """Whether a driver has the run now, as far as can be told."""
        return self.owner is not None and self.state not in ("done", "failed", "stopped", "dead")

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it; `espnet3 status --json` prints it."""
        from dataclasses import asdict

        return {**asdict(self), "run_dir": str(self.run_dir), "live": self.is_live}
