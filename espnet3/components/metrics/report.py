"""The results of `measure` as one table, for the terminal and in Markdown."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any


def summary_table(results: Mapping[str, Any]) -> str:
    """Return the table over all test sets, and below it what was left out or missing, as text."""
    from rich.console import Console
    from rich.table import Table

    header, rows = table_cells(results)
    table = Table()
    for number, title in enumerate(header):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row, end_section=row is rows[-2] if len(rows) > 1 else False)
    out = io.StringIO()
    console = Console(
        file=out, width=10_000, markup=False, emoji=False, highlight=False, color_system=None
    )
    console.print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return "\n".join([*lines, *remarks(results)])


def summary_markdown(results: Mapping[str, Any]) -> str:
    """Return the same table and notes as a Markdown document."""
    header, rows = table_cells(results)
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in [header, *rows]]
    ruler = ["---", *["---:"] * (len(header) - 1)]
    table = [f"| {' | '.join(row)} |" for row in [escaped[0], ruler, *escaped[1:]]]
    notes = [f"- {note}" for note in remarks(results)]
    return "\n".join(["# Results", "", *table, "", *notes, ""])


def table_cells(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header, and one row per test set with the total below several.

    Args:
        results: what `measure` returned, or wrote to ``metrics.json``.
    """
    summary = results["summary"]
    figures = list(summary["test_sets"].values())
    labels = list(summary["test_sets"])
    metrics = {
        name: [by_set[label] for label in labels]
        for name, by_set in results.items()
        if name != "summary"
    }
    if len(labels) > 1:
        total = summary["total"]
        labels.append("total")
        figures.append(total)
        for name, values in metrics.items():
            values.append(total["metrics"][name])
    columns = {
        "test set": labels,
        "scored": [f"{one['scored']}/{one['utterances']}" for one in figures],
    }
    for name, values in metrics.items():
        prefix = "" if "." in name else f"{name} "  # a name of its own, not a class path
        columns.update({prefix + title: cells for title, cells in _metric_columns(values)})
    columns["RTF"] = [_number(one["RTF"], 3) for one in figures]
    columns["audio [s]"] = [_number(one["audio_seconds"], 1) for one in figures]
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _metric_columns(values: list[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    counts = [one["counts"] for one in values]
    rates = [key for key in values[0] if key != "counts"]
    columns = [(rate, [_number(one[rate], 2) for one in values]) for rate in rates]
    if "words" in counts[0]:
        kinds = ("substitutions", "deletions", "insertions")
        columns.insert(0, ("words", [str(one["words"]) for one in counts]))
        columns.append(("S/D/I", ["/".join(str(one[kind]) for kind in kinds) for one in counts]))
    return columns


def remarks(results: Mapping[str, Any]) -> list[str]:
    """Return a sentence per test set about what was left out or is missing."""
    summary = results["summary"]
    notes = []
    for name, one in summary["test_sets"].items():
        note = f"{name}: scored {one['scored']}/{one['utterances']} utterances"
        missing = one["utterances"] - one["scored"]
        if missing and summary["missing"] == "ignore":
            note += f"; {missing} without a hypothesis left out, as `missing: ignore` asks"
        elif missing:
            note += f"; {missing} without a hypothesis counted as deletions"
        notes.append(note)
    return notes


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
