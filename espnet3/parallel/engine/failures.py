"""What failed: the file for people and tools, and the error that ends the run."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from espnet3.errors import RunFailed
from espnet3.parallel.engine.disk import explained
from espnet3.parallel.engine.report import KILLED, UnitFailure

SHOWN = 5


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
    width = max((len(str(e["utterance"])) for e in entries[:SHOWN]), default=0)
    lines += [
        f"  {e['utterance']!s:<{width}}  position {e['position']}  in {e['step']}: "
        f"{e['error']}: {_first_line(e['message'])}"
        for e in entries[:SHOWN]
    ]
    if len(entries) > SHOWN:
        lines.append(f"  ... and {len(entries) - SHOWN} more")
    lines.append(f"Tracebacks: {run_dir / 'failures.jsonl'}.")
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
    return ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(4))


def _first_line(message: str) -> str:
    line = message.strip().splitlines()[0] if message.strip() else "(no message)"
    return line if len(line) <= 160 else line[:157] + "..."
