"""What `measure` has found, where it was run on the same directory."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet3.components.metrics.report import remarks, table_cells
from espnet3.report.record import RunRecord


@dataclass(frozen=True)
class Measured:
    """The table of one inference directory.

    Attributes:
        name: of the directory.
        header: titles of the columns.
        rows: a row of cells for each test set, and below several their total.
        notes: what was left out or is missing.
    """

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def find_measured(run_dirs: Sequence[Path], runs: Sequence[RunRecord]) -> list[Measured]:
    """The tables that lie beside these runs, one for each inference directory."""
    ends = {run.directory: max((x.back or 0.0 for x in run.leases), default=0.0) for run in runs}
    found = []
    for directory in dict.fromkeys(run_dir.parent for run_dir in run_dirs):
        path = directory / "metrics.json"
        try:
            results = json.loads(path.read_bytes())
            header, rows = table_cells(results)
            told = remarks(results)
            written = path.stat().st_mtime
        except (OSError, ValueError, LookupError, TypeError):
            continue  # another program's file of that name
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(written))
        told = [*told, f"Measured {when} ({path})."]
        newer = [str(d) for d in run_dirs if d.parent == directory and ends[str(d)] > written + 1]
        if newer:
            told.append(f"Since then this went on, so measure again: {', '.join(newer)}.")
        found.append(Measured(directory.name, header, rows, told))
    return found
