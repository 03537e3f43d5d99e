"""What became of starts, workers and leases, put together from the events of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from espnet3.parallel.engine.coverage import Shard
from espnet3.parallel.engine.shards import ShardNaming, shard_name
from espnet3.report.record import DONE, LOST, OUT, LeaseLife, Start, WorkerLife
from espnet3.runs import Event

LABELS = {
    "backend": "backend",
    "n_workers": "workers",
    "batch_size": "batch size",
    "cwd": "working directory",
    "python": "interpreter",
}


@dataclass
class Lives:
    """What the events tell; see `RunRecord`."""

    starts: list[Start] = field(default_factory=list)
    workers: list[WorkerLife] = field(default_factory=list)
    leases: list[LeaseLife] = field(default_factory=list)


def lives(
    events: Iterable[Event], n_positions: int, accepted: Mapping[str, Shard], now: float | None
) -> Lives:
    """Put the events of a run together.

    Args:
        events: in the order in which they were written; those that do not fit are left out.
        n_positions: of the run.
        accepted: the shards that count, by directory name.
        now: the time (seconds since 1970) if the last start still lives; None if it has ended.
    """
    story = _Story(n_positions, accepted)
    for event in events:
        try:
            story.take(event)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # of another version
    return story.end(now)


class _Story:
    def __init__(self, n_positions: int, accepted: Mapping[str, Shard]) -> None:
        self._n_positions = n_positions
        self._accepted = accepted
        self._starts: dict[int, Start] = {}
        self._workers: dict[tuple[int, str], WorkerLife] = {}
        self._here: set[tuple[int, str]] = set()
        self._leases: dict[tuple[int, int], LeaseLife] = {}

    def take(self, event: Event) -> None:
        """Take one event over."""
        epoch, now, said = event.epoch, event.time, event.fields
        start = self._starts.get(epoch) or Start(epoch, now, now)
        self._starts[epoch] = replace(start, ended=max(now, start.ended))
        match event.event:
            case "start":
                self._start(epoch, said)
            case "worker_up":
                key = epoch, str(said["worker"])
                host = str(said.get("host") or "")
                self._workers[key] = WorkerLife(key[1], epoch, now, now, None, now, host=host)
                self._here.add(key)
            case "env_built":
                key = epoch, str(said["worker"])
                worker = self._workers[key]
                building = max(worker.up, now - float(said.get("seconds", 0.0)))
                host = str(said.get("host") or worker.host)
                self._workers[key] = replace(worker, building=building, built=now, host=host)
            case "worker_left" | "worker_lost" | "worker_useless":
                self._gone(epoch, now, event)
            case "dealt" | "reported" | "lost":
                self._lease(epoch, now, event)

    def end(self, now: float | None) -> Lives:
        """Everything, now that no event comes any more."""
        last = max(self._starts, default=0)
        if now is not None and last:
            self._starts[last] = replace(self._starts[last], ended=now)
        for key in self._here:
            self._workers[key] = replace(self._workers[key], gone=self._starts[key[0]].ended)
        for (epoch, number), lease in self._leases.items():
            if lease.outcome == OUT and (epoch != last or now is None):
                end = self._starts[epoch].ended
                self._leases[epoch, number] = self._unreported(lease, number, end)
        starts = sorted(self._starts.values(), key=lambda start: start.epoch)
        leases = sorted(self._leases.values(), key=lambda lease: lease.dealt)
        return Lives(starts, list(self._workers.values()), leases)

    def _start(self, epoch: int, said: Mapping[str, Any]) -> None:
        facts = {str(name): str(version) for name, version in said.get("versions", {}).items()}
        facts["backend"], facts["workers"] = (
            str(said.get(k, "")) for k in ("backend", "n_workers")
        )
        for key in LABELS:
            if said.get(key) is not None:
                facts[LABELS[key]] = str(said[key])
        command = said.get("command", ())
        self._starts[epoch] = replace(
            self._starts[epoch],
            host=str(said.get("host", "")),
            command=command if isinstance(command, str) else " ".join(map(str, command)),
            facts=facts,
        )

    def _gone(self, epoch: int, now: float, event: Event) -> None:
        key = epoch, str(event.fields["worker"])
        died = str(event.fields.get("why") or "nobody knows how")
        died = "" if event.event == "worker_left" else died
        self._workers[key] = replace(self._workers[key], gone=now, lost=died)
        self._here.discard(key)

    def _lease(self, epoch: int, now: float, event: Event) -> None:
        said = event.fields
        number, first, stop = int(said["lease"]), int(said["first"]), int(said["stop"])
        if event.event == "dealt":
            self._leases[epoch, number] = LeaseLife(
                str(said["worker"]), epoch, first, stop, now, None, 0, first, OUT
            )
            return
        lease = self._leases[epoch, number]
        if event.event == "lost":
            in_flight = said.get("in_flight")
            begun = first if in_flight is None else int(in_flight) + 1
            if done := int(said.get("done", 0)):  # it had committed before it died
                lease = replace(lease, back=now, done=done, begun=first + done, outcome=DONE)
            else:
                lease = replace(lease, back=now, begun=begun, outcome=LOST)
            self._leases[epoch, number] = lease
            return
        self._leases[epoch, number] = replace(
            lease,
            back=now,
            done=int(said.get("done", 0)),
            begun=int(said.get("next", stop)),
            outcome=LOST if said.get("redo") else DONE,
            failed=int(said["failed"][0]) if said.get("failed") else None,
        )

    def _unreported(self, lease: LeaseLife, number: int, end: float) -> LeaseLife:
        """A lease that was out when its driver died; what it committed may have been taken over."""
        naming = ShardNaming(self._n_positions, lease.epoch)
        shard = self._accepted.get(shard_name(naming.shard_id(lease.first, number)))
        if shard is not None:
            done = shard.stop - lease.first
            return replace(lease, back=end, done=done, begun=shard.stop, outcome=DONE)
        return replace(lease, back=end, begun=lease.stop, outcome=LOST)
