"""What the event log says of the last start of a run, summed up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from espnet3.parallel.engine.events import DONE, FAILED, PLANNING, STOPPED
from espnet3.parallel.engine.pace import Pace
from espnet3.runs.events import Event
from espnet3.runs.views import WorkerView

ENDS = (DONE, FAILED, STOPPED)


@dataclass
class History:
    """Takes the events of one start in their order.

    Attributes:
        epoch: of the start.
        start: what its first event says.
        began: its time.
        state: the last state that was told.
        reason: why.
        since: since when.
        ended: when the driver ended; what is told later others have done.
        work_began: time of the first lease.
        work_last: time of the last report about one.
        last: time of the last event; None if there was none.
        known: name of a worker -> what is known of it, as `WorkerView` has it.
        leases: number -> worker that has it.
        memory: what was last said of a batch that did not fit into memory.
        pace: of the work since the start.
    """

    epoch: int = 0
    start: Mapping[str, Any] = field(default_factory=dict)
    began: float | None = None
    state: str = PLANNING
    reason: str = ""
    since: float | None = None
    ended: float | None = None
    work_began: float | None = None
    work_last: float | None = None
    last: float | None = None
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    leases: dict[int, str] = field(default_factory=dict)
    memory: str = ""
    pace: Pace = field(default_factory=Pace)

    @classmethod
    def of(cls, start: Event) -> Self:
        """What is known when a start has just begun."""
        return cls(start.epoch, start.fields, start.time)

    def take(self, event: Event) -> None:
        """Take one event over; one that is not known, or not as it should be, says nothing."""
        self.last = event.time
        try:
            self._take(event, event.fields)
        except (KeyError, TypeError, ValueError):
            return

    def _take(self, event: Event, said: Mapping[str, Any]) -> None:
        match event.event:
            case "state":
                self.state, self.reason = str(said["state"]), str(said.get("reason", ""))
                self.since = event.time
                if self.state in ENDS and self.ended is None:
                    self.ended = event.time
            case "out_of_memory":
                self.memory = str(said["told"])
            case "worker_up":
                self._know(event, host=str(said.get("host", "")), pid=int(said.get("pid", 0)))
            case "env_built":
                known = {key: said[key] for key in ("host", "pid", "job", "log") if key in said}
                self._know(event, **known, env_seconds=float(said["seconds"]), state="idle")
            case "dealt":
                if self.work_began is None:
                    self.work_began = event.time
                lease = {"first": int(said["first"]), "stop": int(said["stop"])}
                self.leases[int(said["lease"])] = str(said["worker"])
                self.pace.dealt(int(said["lease"]), event.time)
                self._know(event, state="working", **lease)
            case "reported":
                self._count(event, said)
            case "lost":
                self._settle(event, said)
            case "worker_lost":
                self._know(event, state="lost", why=str(said.get("why", "")), first=None, stop=None)
            case "worker_useless":
                self._know(event, state="useless", why=str(said["why"]), first=None, stop=None)
            case "worker_left":
                self._know(event, state="left", first=None, stop=None)

    def _count(self, event: Event, said: Mapping[str, Any]) -> None:
        self._settle(event, said)
        worker = self.known.setdefault(str(said["worker"]), {})
        seconds = worker.get("forward_seconds", 0.0) + float(said.get("seconds", 0.0))
        self._know(
            event,
            state="idle",
            first=None,
            stop=None,
            done=worker.get("done", 0) + int(said.get("done", 0)),
            forward_seconds=seconds,
            n_failed=worker.get("n_failed", 0) + ("failed" in said),
        )

    def _settle(self, event: Event, said: Mapping[str, Any]) -> None:
        lease, done = int(said["lease"]), int(said.get("done", 0))
        self.leases.pop(lease, None)
        self.work_last = event.time
        self.pace.back(lease, event.time, done, float(said.get("audio", 0.0)))

    def _know(self, event: Event, **what: Any) -> None:
        worker = self.known.setdefault(str(event.fields["worker"]), {})
        worker.update(what, since=event.time, last_sign=event.time)

    @property
    def workers(self) -> list[WorkerView]:
        """What is known of each worker."""
        return [WorkerView(name, **what) for name, what in self.known.items()]
