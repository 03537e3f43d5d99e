"""What workers said, and what is known of the items that failed."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet3.errors import DataError
from espnet3.parallel.engine.ledger import read_coverage
from espnet3.parallel.engine.manifest import Manifest
from espnet3.runs.events import EventReader
from espnet3.runs.own import order_of

_LOGS = "logs"
_TIME = re.compile(r"(?:--- )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
MARGIN = 2.0  # seconds before and after a lease of which lines are shown, as logs tell whole ones
TAIL = 50  # lines that are shown


@dataclass(frozen=True)
class _Lease:
    """Who had it, from when to when (unix seconds)."""

    worker: str
    began: float
    ended: float


def log_files(run_dir: str | os.PathLike[str]) -> list[Path]:
    """The log files of a run's workers, by name."""
    paths = Path(run_dir, _LOGS).glob("worker.*.log")
    return sorted(paths, key=lambda path: (len(path.name), path.name))


def worker_log(run_dir: str | os.PathLike[str], worker: str) -> Path:
    """The log file of a worker.

    Args:
        run_dir: the run directory.
        worker: its name (`3`), or with the pid of its process (`3.4711`).

    Raises:
        DataError: if there is none, naming those that there are.
    """
    files = {path.name[len("worker.") : -len(".log")]: path for path in log_files(run_dir)}
    for name in (worker, worker.rpartition(".")[0]):
        if name in files:
            return files[name]
    there = ", ".join(files) or "none"
    raise DataError(f"no log of a worker {worker!r} in {Path(run_dir, _LOGS)}; there are: {there}")


def failed_attempts(
    run_dir: str | os.PathLike[str], item: str | None = None
) -> Iterator[dict[str, Any]]:
    """The lines of `failures.jsonl`, oldest first: each attempt that failed, with its traceback.

    Args:
        run_dir: the run directory.
        item: name of an utterance, or `#position`; None for all.
    """
    try:
        lines = Path(run_dir, "failures.jsonl").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            attempt = json.loads(line)
            wanted = item is None or item in (attempt["utterance"], f"#{attempt['position']}")
        except (ValueError, KeyError, TypeError):  # torn
            continue
        if wanted:
            yield attempt


def still_failed(run_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The last attempt at each item that has not been done since, by position."""
    manifest = Manifest.read(Path(run_dir))
    if manifest is None:
        return []
    order = order_of(Path(run_dir))
    coverage = read_coverage(Path(run_dir), manifest.run_id)
    failed = {order.position(place): entry for place, entry in coverage.failed.items()}
    last = {attempt["position"]: attempt for attempt in failed_attempts(run_dir)}
    return [
        {**entry, "position": position, **last.get(position, {})}
        for position, entry in sorted(failed.items())
    ]


def item_log(run_dir: str | os.PathLike[str], item: str) -> str:
    """All that is known of one item: its failed attempts, and what its worker said meanwhile.

    Args:
        run_dir: the run directory.
        item: name of an utterance, or `#position`. Of one that has not failed, the position is
            looked for in the text files of the shards, by lines that begin with its name.

    Raises:
        DataError: if nothing is known of it.
    """
    run_dir = Path(run_dir)
    attempts = list(failed_attempts(run_dir, item))
    parts = [told(attempt) for attempt in attempts]
    done = _done_where(run_dir, item)
    if done is not None:
        what, lease = done
        parts.append(what)
        parts += _said_in(run_dir, lease) if lease else []
    for attempt in attempts[-1:]:
        parts += _said_in(run_dir, _lease_of_failure(run_dir, attempt))
    if not parts:
        raise DataError(
            f"{run_dir} knows nothing of {item!r}: it has not failed, and no shard has a line that "
            "begins with it. By position it is asked for as '#5'."
        )
    return "\n".join(parts)


def told(attempt: Mapping[str, Any]) -> str:
    """A failed attempt in words, with its traceback."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt.get("time", 0)))
    step = f" in {attempt['step']}" if attempt.get("step") else ""
    worker = f", worker {attempt['worker']}" if attempt.get("worker") else ""
    head = f"{attempt['utterance']} (position {attempt['position']}) failed{step}, {when}{worker}"
    trace = str(attempt.get("traceback") or "").rstrip()
    return f"{head}\n{trace or '  {}: {}'.format(attempt.get('error'), attempt.get('message'))}"


def _done_where(run_dir: Path, item: str) -> tuple[str, _Lease | None] | None:
    """The shard that an item is done in, in words, and the lease that made it."""
    manifest = Manifest.read(run_dir)
    if manifest is None:
        return None
    position = int(item[1:]) if item[:1] == "#" and item[1:].isdigit() else None
    place = None if position is None else order_of(run_dir).place(position)
    for shard in read_coverage(run_dir, manifest.run_id).shards_in_order():
        inside = place is not None and shard.first <= place < shard.stop
        if inside or (position is None and _names(run_dir / shard.name, item)):
            where = f"{item} is done, in {run_dir / shard.name}"
            return where, _lease_of_shard(run_dir, shard.name)
    return None


def _names(shard_dir: Path, item: str) -> bool:
    """Whether a text file of a shard has a line that begins with that name."""
    start = item.encode() + b" "
    for path in sorted(shard_dir.glob("*")):
        if path.is_file() and path.name != "done":
            with path.open("rb") as lines:
                if any(line.startswith(start) for line in lines):
                    return True
    return False


def _lease_of_shard(run_dir: Path, shard: str) -> _Lease | None:
    return _find_lease(run_dir, lambda said: said.get("shard") == shard)


def _lease_of_failure(run_dir: Path, attempt: Mapping[str, Any]) -> _Lease | None:
    """The lease that a failed unit was in, or the one in which its worker died."""
    place, epoch = order_of(run_dir).place(attempt["position"]), attempt.get("epoch")

    def is_it(said: Mapping[str, Any]) -> bool:
        failed = said.get("failed") or [said.get("in_flight"), None]
        return bool(failed[0] == place)

    return _find_lease(run_dir, is_it, epoch)


def _find_lease(
    run_dir: Path, is_it: Callable[[Mapping[str, Any]], bool], epoch: int | None = None
) -> _Lease | None:
    """The last lease whose end fits, with the time from its beginning to its end."""
    found: _Lease | None = None
    dealt: dict[tuple[int, Any], float] = {}
    for event in EventReader(run_dir).read():
        said = event.fields
        key = event.epoch, said.get("lease")
        if event.event == "dealt":
            dealt[key] = event.time
        elif event.event in ("reported", "lost") and epoch in (None, event.epoch) and is_it(said):
            worker = str(said.get("worker", ""))
            found = _Lease(worker, dealt.get(key, event.time), event.time)
    return found


def _said_in(run_dir: Path, lease: _Lease | None) -> list[str]:
    """What a worker's log says from the beginning of a lease to its end."""
    if lease is None:
        return []
    try:
        path = worker_log(run_dir, lease.worker)
    except DataError:  # it was the driver itself, or its log could not be written
        return []
    lines, inside = [], False
    with path.open(errors="replace") as log:
        for line in log:
            if match := _TIME.match(line):
                when = time.mktime(time.strptime(match[1], "%Y-%m-%d %H:%M:%S"))
                inside = lease.began - MARGIN <= when <= lease.ended + MARGIN
            if inside:
                lines.append(line.rstrip("\n"))
    if not lines:
        return []
    return [f"worker {lease.worker} said at that time, in {path}:", *lines[-TAIL:]]
