"""Looking at a run: everything is read from its directory, nothing is locked or changed."""

import os
import time
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.durations import read_durations
from espnet3.parallel.engine.events import DONE, FAILED, PLANNING, RUNNING, STOPPED
from espnet3.parallel.engine.ledger import read_coverage
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.marker import marker_path, read_in_flight
from espnet3.parallel.engine.order import Order
from espnet3.parallel.engine.order_file import read_order
from espnet3.runs.events import EventReader
from espnet3.runs.history import ENDS, History
from espnet3.runs.owners import see_owner
from espnet3.runs.unit_times import audio_of, slowest
from espnet3.runs.views import FailedItem, OwnerView, Snapshot, WorkerView

DEAD = "dead"
SLOWEST = 10  # units that are named


def snapshot(run_dir: str | os.PathLike[str], *, disk: bool = True) -> Snapshot:
    """See how a run stands, live or after the fact, on any host that sees its directory.

    Args:
        run_dir: the run directory (see `find_runs`).
        disk: also add up what it holds, which means looking at each of its files.

    Raises:
        FileNotFoundError: if no run began there.
        LedgerError: if its files are damaged.
    """
    return RunReader(run_dir).look(disk=disk)


class RunReader:
    """Looks at one run again and again; of the event log only what is new is read.

    Args:
        run_dir: the run directory.
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        self.run_dir = Path(run_dir).absolute()
        self._events = EventReader(self.run_dir)
        self._history = History()

    def look(self, *, disk: bool = True) -> Snapshot:
        """As `snapshot`."""
        run_dir = self.run_dir
        manifest = Manifest.read(run_dir)
        if manifest is None:
            return self._without_manifest()
        # The owner first: one that ends just now has told so before it lets go of the lock.
        owner, dead = see_owner(run_dir, lambda: read_coverage(run_dir, manifest.run_id).longest)
        for event in self._events.read():
            if event.event == "start":
                self._history = History.of(event)
            else:
                self._history.take(event)
        coverage = read_coverage(run_dir, manifest.run_id)
        order = read_order(run_dir, manifest)
        history = self._of_this(manifest.run_id)
        state, reason = _state(coverage, history, manifest.positions, owner, dead)
        durations = read_durations(run_dir)
        seen = Snapshot(
            run_dir,
            time.time(),
            state,
            reason,
            run_id=manifest.run_id,
            epoch=history.epoch,
            owner=owner,
            n_items=manifest.positions,
            forward_seconds=coverage.forward_seconds,
            split=len(coverage.split),
            memory=history.memory,
            failures=_failures(coverage, order),
            slowest=tuple(
                slowest(
                    run_dir, manifest.run_id, coverage.shards.values(), SLOWEST, durations, order
                )
            ),
            workers=_workers(run_dir, history, state, coverage, order),
            **_of_start(history, manifest),
            **_counts(coverage, history, manifest.positions),
            **_audio(coverage, durations, manifest.positions),
        )
        seen = _with_rates(seen, history)
        return _with_disk(seen) if disk else seen

    def _without_manifest(self) -> Snapshot:
        owner, dead = see_owner(self.run_dir, lambda: 0.0)
        if owner is None:
            raise FileNotFoundError(f"no run in {self.run_dir} (there is no manifest.json)")
        return Snapshot(self.run_dir, time.time(), DEAD if dead else PLANNING, dead, owner=owner)

    def _of_this(self, run_id: str) -> History:
        """The history, if it is of this run; else, as former versions wrote none, an empty one."""
        mine = self._history.start.get("run_id") == run_id
        return self._history if mine else History()


def _state(
    coverage: Coverage, history: History, n_items: int, owner: OwnerView | None, dead: str
) -> tuple[str, str]:
    if dead:
        return DEAD, dead
    if owner is not None:
        reason = f"suspended; `kill -CONT {owner.pid}` lets it go on" if owner.suspended else ""
        if history.state in ENDS and not _is_by(owner, history):
            return PLANNING, reason
        if history.began is None:
            work = len(coverage.accepted) + len(coverage.failed) < n_items
            return (RUNNING if work else PLANNING), reason
        return history.state, reason or history.reason
    if history.state in ENDS:
        return history.state, history.reason
    if coverage.failed:
        return FAILED, f"{len(coverage.failed)} items failed"
    if coverage.sealed and len(coverage.accepted) == n_items:
        return DONE, ""
    return STOPPED, "its driver ended without a word about it"


def _is_by(owner: OwnerView, history: History) -> bool:
    """Whether the last start that was logged is that owner's, who then has just ended."""
    return (owner.host, owner.pid) == (history.start.get("host"), history.start.get("pid"))


def _of_start(history: History, manifest: Manifest) -> dict[str, Any]:
    start = history.start
    return {
        "backend": str(start.get("backend", "")),
        "n_workers": start.get("n_workers"),
        "command": tuple(start.get("command", ())) or tuple(manifest.command.split()),
        "working_directory": str(start.get("cwd", "")),
        "python": str(start.get("python", "")),
        "versions": dict(start.get("versions", {})),
        "began": history.began,
        "work_began": history.work_began,
        "ended": history.ended,
        "last_event": history.last,
    }


def _counts(coverage: Coverage, history: History, n_items: int) -> dict[str, Any]:
    goal = int(history.start.get("goal", n_items))
    left = sum(stop - first for first, stop in coverage.remaining(goal))
    return {
        "goal": goal,
        "done": len(coverage.accepted),
        "failed": len(coverage.failed),
        "left": left,
        "done_before": int(history.start.get("done_before", 0)),
    }


def _audio(coverage: Coverage, durations: "array[float] | None", n_items: int) -> dict[str, Any]:
    if durations is None or len(durations) != n_items:
        return {}
    done = sum(audio_of(durations, first, stop) or 0.0 for first, stop in coverage.accepted)
    return {"audio": sum(durations), "audio_done": done}


def _with_rates(seen: Snapshot, history: History) -> Snapshot:
    rtf = seen.forward_seconds / seen.audio_done if seen.audio_done else None
    pace = history.pace
    if not pace.done or history.work_began is None or history.work_last is None:
        return replace(seen, rtf=rtf)
    # By the clock of the driver alone: this host's may be another.
    took = max(history.work_last - history.work_began, 1e-3)
    eta = None
    if seen.is_live:
        audio = max(0.0, (seen.audio or 0.0) - (seen.audio_done or 0.0))
        now = max(seen.time, history.last or 0.0)
        eta = pace.left(seen.left, audio, now, pace.n_out)
    rate, audio_rate = pace.done / took, (pace.audio / took) or None
    return replace(seen, rtf=rtf, rate=rate, audio_rate=audio_rate, eta=eta)


def _failures(coverage: Coverage, order: Order) -> tuple[FailedItem, ...]:
    items = (
        FailedItem(
            order.position(place),
            coverage.name_of(place, order),
            str(entry.get("step") or ""),
            str(entry.get("error", "")),
            str(entry.get("message", "")),
            str(entry.get("log") or ""),
            coverage.kills[place, place + 1],
        )
        for place, entry in coverage.failed.items()
    )
    return tuple(sorted(items, key=lambda item: item.position))


def _workers(
    run_dir: Path, history: History, state: str, coverage: Coverage, order: Order
) -> tuple[WorkerView, ...]:
    over = state in (*ENDS, DEAD)
    leases = {name: number for number, name in history.leases.items()}
    views = []
    for worker in history.workers:
        if worker.state in ("lost", "left", "useless"):
            views.append(worker)
            continue
        worker = _heard(run_dir, worker)
        if worker.name in leases:
            place = read_in_flight(marker_path(run_dir, worker.name), leases[worker.name])
            if place is None:
                worker = replace(worker, position=None, utterance="")
            else:
                name = coverage.name_of(place, order)
                worker = replace(worker, position=order.position(place), utterance=name)
        views.append(replace(worker, state="gone") if over else worker)
    return tuple(views)


def _heard(run_dir: Path, worker: WorkerView) -> WorkerView:
    if not worker.log:
        return worker
    try:
        written = (run_dir / worker.log).stat().st_mtime
    except OSError:
        return worker
    return replace(worker, last_sign=max(worker.last_sign, written))


def _with_disk(seen: Snapshot) -> Snapshot:
    size = files = 0
    for root, _, names in os.walk(seen.run_dir):
        for name in names:
            try:
                size += os.lstat(os.path.join(root, name)).st_size
            except OSError:  # it was removed meanwhile
                continue
            files += 1
    return replace(seen, disk_bytes=size, disk_files=files)
