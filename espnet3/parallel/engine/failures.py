"""What failed: the file for people and tools, and the error that ends the run."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet3.errors import RunFailed
from espnet3.parallel.engine.disk import explained
from espnet3.parallel.engine.report import KILLED, UnitFailure

SHOWN = 5  # failed items in the error's table
LINE = 240  # characters of an exception's first line; what is to be done often stands at its end
KINDS = 4  # kinds of exceptions that are counted by name


class FailureLog:
    """`failures.jsonl`: one line per failed attempt, appended by the owner."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "failures.jsonl"
        self._attempts: Counter[int] = Counter()

    def append(self, failure: UnitFailure, worker: str, epoch: int) -> None:
        """Add one failed unit."""
        self._attempts[failure.first] += 1
        record = {
            "utterance": failure.utterance,
            "position": failure.first,
            "last": failure.stop - 1,
            "step": failure.step,
            "error": failure.error,
            "message": failure.message,
            "traceback": failure.traceback,
            "worker": worker,
            "log": failure.log or None,
            "epoch": epoch,
            "attempt": self._attempts[failure.first],
            "time": time.time(),
        }
        with (
            explained(self.path),
            self.path.open("a", encoding="utf-8", errors="backslashreplace") as f,
        ):
            f.write(json.dumps(record) + "\n")


def ledger_entry(failure: UnitFailure, position: int) -> dict[str, Any]:
    """The ledger's line for one position that failed."""
    return {
        "kind": "failed",
        "position": position,
        "utterance": failure.utterance,
        "step": failure.step,
        "error": failure.error,
        "message": failure.message[:500],
        "log": failure.log,
    }


def run_failed(
    run_dir: Path, failed: dict[int, Any], n_done: int, n_goal: int, why: str | None
) -> RunFailed:
    """The error that names what failed and says what to do.

    Args:
        run_dir: the run.
        failed: position -> ledger entry.
        n_done: positions with committed results.
        n_goal: positions that were to be done.
        why: why the run ended early, or None if everything else was done.
    """
    entries = [failed[p] for p in sorted(failed)]
    kinds = Counter(entry["error"] for entry in entries)
    lines = [
        f"{len(entries)} of {n_goal} items failed ({_counts(kinds)}); {n_done} are done and kept "
        f"in {run_dir}; nothing was merged."
    ]
    if why:
        lines.append(f"The run was stopped early: {why}.")
    lines += _table(entries[:SHOWN])
    if len(entries) > SHOWN:
        lines.append(f"  ... and {len(entries) - SHOWN} more")
    logs = (
        f" What the workers said: {run_dir / 'logs'}." if any(e.get("log") for e in entries) else ""
    )
    lines.append(f"Tracebacks: {run_dir / 'failures.jsonl'}.{logs}")
    if kinds[KILLED]:
        lines.append(
            f"Those with {KILLED} are not tried again before `max_kills` is raised (in `run:`)."
        )
    if why:
        left = n_goal - n_done - len(entries)
        lines.append(f"Mend the cause and run the same again: it does these and the {left} left.")
    else:
        lines.append(
            "Run the same again to retry just these, or with `on_error: skip` (in `run:`, or in "
            "what set_parallel is given) to publish without them."
        )
    return RunFailed("\n".join(lines), failures=entries)


def _counts(kinds: Counter[str]) -> str:
    named = kinds.most_common(KINDS)
    counts = [f"{n} {kind}" for kind, n in named]
    others = kinds.total() - sum(n for _, n in named)
    if others:
        counts.append(f"{others} of other kinds")
    return ", ".join(counts)


def _table(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [("utterance", "position", "step", "error")]
    for e in entries:
        error = f"{e['error']}: {_first_line(e['message'])}"
        rows.append((printable(str(e["utterance"])), str(e["position"]), e["step"], error))
    name, _, step, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [f"  {n:<{name}}  {p:>8}  {s:<{step}}  {error}" for n, p, s, error in rows]


def _first_line(message: str) -> str:
    line = printable(message.strip().splitlines()[0]) if message.strip() else "(no message)"
    return line if len(line) <= LINE else line[: LINE - 3] + "..."


def printable(text: str) -> str:
    """A text of anybody's for a terminal: whatever could move the cursor is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
