"""Reads a run for its report; nothing is locked or changed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet3.errors import LedgerError
from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.ledger import find_epochs, ledger_path, read_coverage
from espnet3.parallel.engine.manifest import CONFIG, Manifest
from espnet3.parallel.engine.order import Order
from espnet3.parallel.engine.order_file import read_order
from espnet3.report.lives import Lives, lives
from espnet3.report.record import RunRecord, Start
from espnet3.report.units import read_units
from espnet3.runs import read_events, snapshot
from espnet3.runs.logs import failed_attempts
from espnet3.utils.masking import mask_secrets


def read_run(run_dir: Path, name: str) -> RunRecord:
    """All that a report tells of a run. Of one whose files are damaged it tells that.

    Args:
        run_dir: the run directory.
        name: what to call the run.
    """
    try:
        seen = snapshot(run_dir, disk=False)
        manifest = Manifest.read(run_dir)
        coverage = Coverage() if manifest is None else read_coverage(run_dir, manifest.run_id)
    except LedgerError as error:
        return RunRecord(name, str(run_dir), "damaged", str(error), 0, 0)
    run = RunRecord(name, str(run_dir), seen.state, seen.reason, seen.goal, seen.done)
    if manifest is None:
        return run
    accepted = {shard.name: shard for shard in coverage.shards.values()}
    now = time.time() if seen.is_live else None
    events = read_events(run_dir, manifest.run_id)
    life = lives(events, manifest.positions, accepted, now)
    units, name_of = read_units(run_dir, manifest, coverage)
    starts = {start.epoch: start for start in (*_from_ledger(run_dir, manifest), *life.starts)}
    order = read_order(run_dir, manifest)
    masked = mask_secrets(
        {
            "why": run.why,
            "failed": _failed(coverage, order),
            "attempts": _attempts(run_dir, set(starts)),
            "config": _config(run_dir),
        }
    )
    return replace(
        run,
        split=seen.split,
        memory=seen.memory,
        starts=[starts[epoch] for epoch in sorted(starts)],
        workers=life.workers,
        leases=life.leases,
        units=units,
        name_of=name_of,
        order=order,
        command=manifest.command,
        unknown=_unknown(life, set(starts), coverage, len(units)),
        **masked,
    )


def _unknown(life: Lives, epochs: set[int], coverage: Coverage, n_units: int) -> list[str]:
    told = {start.epoch for start in life.starts}
    unknown = []
    if not told:
        unknown.append("what the workers did when, as there is no event log (events.jsonl).")
    elif epochs - told:
        unknown.append(f"what the workers did in {len(epochs - told)} starts without event log.")
    if coverage.shards and not n_units:
        unknown.append(
            "the times of single units: the shards were removed, or made by an older version."
        )
    return unknown


def _from_ledger(run_dir: Path, manifest: Manifest) -> list[Start]:
    """What the ledgers tell of starts; a start's end is the time of its last line."""
    starts = []
    for epoch in find_epochs(run_dir):
        path = ledger_path(run_dir, epoch)
        try:
            with path.open("rb") as f:
                header = json.loads(f.readline())
            if header["run_id"] != manifest.run_id:
                continue
            began, ended = float(header["time"]), path.stat().st_mtime
        except (OSError, ValueError, LookupError, TypeError):
            continue
        host, command = str(header.get("host", "")), str(header.get("command", ""))
        starts.append(Start(epoch, began, max(began, ended), host, command))
    return starts


def _failed(coverage: Coverage, order: Order) -> list[dict[str, Any]]:
    """The ledger's entries of what has failed, by position."""
    entries = [{**e, "position": order.position(p)} for p, e in coverage.failed.items()]
    return sorted(entries, key=lambda entry: int(entry["position"]))


def _attempts(run_dir: Path, epochs: set[int]) -> list[Mapping[str, Any]]:
    """All failed attempts of these starts; those of another run in the directory do not count."""
    attempts: list[Mapping[str, Any]] = []
    with suppress(OSError):
        for attempt in failed_attempts(run_dir):
            with suppress(LookupError, TypeError, ValueError):
                if int(attempt["epoch"]) in epochs:
                    attempts.append(attempt)
    return attempts


def _config(run_dir: Path) -> Any:
    try:
        return json.loads((run_dir / CONFIG).read_bytes().partition(b"\n")[2])
    except (OSError, ValueError):
        return {}
