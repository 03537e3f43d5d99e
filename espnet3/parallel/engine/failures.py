"""What failed: the file for people and tools, and the error that ends the run."""

import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from espnet3.errors import RunFailed
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine.disk import explained
from espnet3.parallel.engine.files import FAILURES
from espnet3.parallel.engine.order import AS_GIVEN, Order
from espnet3.parallel.engine.report import HUNG, KILLED, UnitFailure
from espnet3.parallel.wording import first_line, printable, unless_resuming

HOW_TO_SKIP = "`on_error: skip` (in `run:`, or in what set_parallel is given) to publish without"
"""Words of the advice of `run_failed`; a step that is skipped in another way puts its own there."""
SHOWN = 5  # failed items in the error's table
KINDS = 4  # kinds of exceptions that are counted by name
LOGS = 3  # workers' logs that are named


class FailureLog:
    """`failures.jsonl`: one line per failed attempt, appended by the owner."""

    def __init__(self, run_dir: Path, order: Order = AS_GIVEN) -> None:
        self.path = run_dir / FAILURES
        self._order = order
        self._attempts: Counter[int] = Counter()

    def append(self, failure: UnitFailure, worker: str, epoch: int) -> None:
        """Add one failed unit."""
        self._attempts[failure.first] += 1
        positions = self._order.positions(failure.first, failure.stop)
        record = {
            "utterance": failure.utterance,
            "position": positions[0],
            "last": positions[-1],
            "positions": list(positions) if self._order and len(positions) > 1 else None,
            "step": failure.step or None,
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
    """The ledger's line for one place that failed."""
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
    run_dir: Path,
    failed: Sequence[Mapping[str, Any]],
    n_done: int,
    n_goal: int,
    why: str | None,
    config: RunConfig,
) -> RunFailed:
    """The error that names what failed and says what to do.

    Args:
        run_dir: the run.
        failed: the ledger's entries, with positions for places.
        n_done: positions with committed results.
        n_goal: positions that were to be done.
        why: why the run ended early, or None if everything else was done.
        config: what was set.
    """
    entries = sorted(failed, key=lambda entry: int(entry["position"]))
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
    lines += _where_to_look(run_dir, entries)
    lines += _limits_that_were_met(kinds, config)
    n_left = n_goal - n_done - len(entries)
    lines += _way_on(kinds, config, n_left if why else None)
    return RunFailed("\n".join(lines), failures=entries)


def _where_to_look(run_dir: Path, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tracebacks; and the logs of the workers, first of all of those that had no time for one."""
    silent = [e for e in entries if e["error"] in (KILLED, HUNG) and not e["step"]]
    logs = sorted({e["log"] for e in silent or entries if e.get("log")})
    text = []
    if len(silent) < len(entries):
        text.append(f"Tracebacks: {run_dir / 'failures.jsonl'}.")
    if logs:
        places = [str(run_dir / log) for log in logs] if len(logs) <= LOGS else [f"{run_dir}/logs"]
        text.append(f"What the workers said: {', '.join(places)}.")
    return [" ".join(text)] if text else []


def _limits_that_were_met(kinds: Counter[str], config: RunConfig) -> list[str]:
    lines = []
    if kinds[KILLED]:
        lines.append(
            f"Those with {KILLED} are not tried again, also by mended code, before `max_kills` "
            f"(in `run:`; now {config.max_kills}) is raised."
        )
    if kinds[HUNG] and config.unit_timeout is not None:
        lines.append(
            f"Those with {HUNG} get more time with a larger `unit_timeout` (in `run:`; now "
            f"{config.unit_timeout:g} s)."
        )
    return lines


def _way_on(kinds: Counter[str], config: RunConfig, n_left: int | None) -> list[str]:
    """What to do next; `n_left` items were not come to if the run was stopped early, else None."""
    n_again = kinds.total() - kinds[KILLED]
    the_same = f"the same again{unless_resuming(config.resume)}"
    if n_left is not None:
        if not n_left + n_again:
            return []
        if kinds[KILLED]:
            what = f"the others ({n_left + n_again})"
        else:
            what = f"these and the {n_left} left" if n_left else "these"
        return [f"Mend the cause and run {the_same}: it does {what}."]
    if not n_again:
        return [f"Run {the_same} with {HOW_TO_SKIP} them."]
    if kinds[KILLED]:
        return [
            f"Run {the_same} to retry the others ({n_again}), or with {HOW_TO_SKIP} all of these."
        ]
    return [f"Run {the_same} to retry just these, or with {HOW_TO_SKIP} them."]


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
        error = f"{e['error']}: {first_line(e['message'])}"
        step = e["step"] or "-"
        rows.append((printable(str(e["utterance"])), str(e["position"]), step, error))
    name, _, step, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [f"  {n:<{name}}  {p:>8}  {s:<{step}}  {error}" for n, p, s, error in rows]


def ends_of(stack: str) -> str:
    """The outermost and the innermost call of a stack that is formatted like a traceback.

    Such as `forward (asr.py:33) > select (selectors.py:415)`.
    """
    calls = re.findall(r'^  File "(.*)", line (\d+), in (.*)$', stack, re.M)
    places = [f"{name} ({PurePath(file).name}:{line})" for file, line, name in calls]
    return " > ".join(dict.fromkeys([*places[:1], *places[-1:]]))
