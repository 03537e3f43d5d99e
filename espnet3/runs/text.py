"""A snapshot in words, for a terminal."""

import time
from collections.abc import Sequence

from espnet3.parallel.engine.progress import duration
from espnet3.parallel.wording import first_line, printable
from espnet3.runs.views import Snapshot, WorkerView

SHOWN = 5  # failed and slow items
WORKERS = 20  # lines about workers


def describe(seen: Snapshot, workers: int = WORKERS) -> str:
    """All that matters of a run, in some lines.

    Args:
        seen: the run.
        workers: so many are named at most.
    """
    lines = [f"{seen.run_dir}: {seen.state}{f' ({seen.reason})' if seen.reason else ''}"]
    lines.append(f"  items    {_items(seen)}")
    if seen.audio is not None and seen.audio_done is not None:
        lines.append(f"  audio    {_audio(seen)}")
    if seen.is_live:
        left = "measuring" if seen.eta is None else f"about {duration(seen.eta)}"
        lines.append(f"  left     {left}")
    if seen.memory:
        lines.append(f"  memory   {seen.memory}")
    lines += [f"  {name:<8} {text}" for name, text in _where(seen)]
    lines += _workers(seen, workers)
    lines += _failed(seen)
    lines += _slowest(seen)
    return "\n".join(lines)


def one_line(seen: Snapshot) -> str:
    """A run in one line."""
    reason = f" ({first_line(seen.reason)})" if seen.reason else ""
    return f"{seen.run_dir.name}: {seen.state}, {_items(seen)}{reason}"


def _items(seen: Snapshot) -> str:
    share = f" ({100 * seen.done / seen.goal:.0f} %)" if seen.goal else ""
    text = f"{seen.done} of {seen.goal} done{share}, {seen.failed} failed, {seen.left} left"
    if seen.goal < seen.n_items:
        text += f"; the run has {seen.n_items}, `limit` leaves the others out"
    if seen.split:
        text += f"; {seen.split} not done in the planned unit"
    return f"{text}, {seen.rate:.3g} items/s" if seen.rate else text


def _audio(seen: Snapshot) -> str:
    text = f"{duration(seen.audio_done or 0.0)} of {duration(seen.audio or 0.0)}"
    if seen.audio_rate:
        text += f", {seen.audio_rate:.3g} times real time"
    return f"{text}, RTF {seen.rtf:.3g}" if seen.rtf else text


def _where(seen: Snapshot) -> list[tuple[str, str]]:
    rows = []
    if seen.owner is not None:
        beat = "" if seen.owner.seconds is None else f", heartbeat {_ago(seen.owner.seconds)}"
        who = f"pid {seen.owner.pid} on {seen.owner.host} since {seen.owner.started}{beat}"
        rows.append(("driver", who))
    if seen.began is not None:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seen.began))
        took = f", took {duration(seen.ended - seen.began)}" if seen.ended else ""
        rows.append(("start", f"number {seen.epoch}, {when}{took}"))
    if seen.backend:
        rows.append(("backend", f"{seen.backend}, n_workers {seen.n_workers}"))
    if seen.disk_bytes is not None:
        rows.append(("disk", f"{_bytes(seen.disk_bytes)} in {seen.disk_files} files"))
    return rows


def _workers(seen: Snapshot, most: int) -> list[str]:
    if not seen.workers:
        return []
    states = [worker.state for worker in seen.workers]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    lines = [f"  workers  {counts}"]
    # Those that work are what one looks for; of the others, the last ones.
    order = sorted(seen.workers, key=lambda w: (w.state != "working", -w.last_sign))
    lines += [f"    {_worker(worker, seen.time)}" for worker in order[:most]]
    if len(order) > most:
        lines.append(f"    ... and {len(order) - most} more")
    return lines


def _worker(worker: WorkerView, now: float) -> str:
    job = f" job {worker.job}" if worker.job else ""
    text = f"{worker.name} on {worker.host}{job}: {worker.state}"
    if worker.position is not None:
        text += f" at {printable(worker.utterance)}"
    elif worker.first is not None and worker.stop is not None:
        n = worker.stop - worker.first
        text += f" on {n} items" if n > 1 else " on 1 item"
    if worker.why:
        text += f" ({first_line(worker.why)})"
    return f"{text}, {worker.done} done, heard of {_ago(max(0.0, now - worker.last_sign))}"


def _failed(seen: Snapshot) -> list[str]:
    if not seen.failures:
        return []
    lines = ["  failed"]
    for item in seen.failures[:SHOWN]:
        kills = f" (killed {item.kills})" if item.kills else ""
        step = f" in {item.step}" if item.step else ""
        what = f"{item.error}{step}: {first_line(item.message)}{kills}"
        lines.append(f"    {printable(item.utterance)} (position {item.position}): {what}")
    return _more(lines, seen.failures)


def _slowest(seen: Snapshot) -> list[str]:
    if not seen.slowest:
        return []
    lines = ["  slowest"]
    for item in seen.slowest[:SHOWN]:
        audio = f" for {duration(item.audio)} of audio" if item.audio else ""
        where = f"position {item.positions[0]}"
        if len(item.positions) > 1:
            where += f", with {len(item.positions) - 1} more"
        lines.append(f"    {printable(item.utterance)} ({where}): {item.seconds:.3g} s{audio}")
    return lines


def _more(lines: list[str], of: Sequence[object]) -> list[str]:
    return [*lines, f"    ... and {len(of) - SHOWN} more"] if len(of) > SHOWN else lines


def _ago(seconds: float) -> str:
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"
