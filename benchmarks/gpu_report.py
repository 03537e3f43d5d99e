"""Comparing the variants of the GPU benchmark: texts, ratios, tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_variants import LIMIT, PACKAGE, PEER, Result


def agreement(one: Path, other: Path) -> dict[str, float]:
    """How far two files of texts agree: what they share, in utterances and in frames.

    Batches are computed in sums of another order, so that near ties may fall the other way.

    Returns:
        ``utterances``: share of identical texts; ``frames``: share of identical letters;
        ``missing``: ids that only one of them has, or whose texts have other lengths.
    """
    texts, others = _read(one), _read(other)
    both = [key for key in texts.keys() & others.keys() if len(texts[key]) == len(others[key])]
    frames = sum(len(texts[key]) for key in both)
    same = sum(sum(map(str.__eq__, texts[key], others[key])) for key in both)
    return {
        "utterances": sum(texts[key] == others[key] for key in both) / max(1, len(both)),
        "frames": same / max(1, frames),
        "missing": len(texts.keys() | others.keys()) - len(both),
    }


def rows(results: Sequence[Result], agreements: Sequence[dict[str, float] | None]) -> list[Any]:
    """All figures of every variant, as plain data."""
    peer = next((r for r in results if r.name in (PEER, PACKAGE)), None)
    limit = next((r for r in results if r.name == LIMIT), None)
    return [
        {
            "variant": r.name,
            "gpus": r.gpus,
            "audio_hours": r.audio_seconds / 3600,
            "whole_seconds": r.whole_seconds,
            "run_seconds": r.run_seconds,
            "cpu_seconds": r.cpu_seconds,
            "whole_rate": r.whole_rate,
            "run_rate": r.run_rate,
            "whole_to_peer": peer and r.whole_rate / peer.whole_rate,
            "run_to_peer": peer and r.run_rate / peer.run_rate,
            "whole_to_limit": limit and _like(r, limit),
            "run_to_limit": limit and r.run_rate / (limit.run_rate * r.gpus),
            "busy": r.busy,
            "on_device": r.share("device_seconds"),
            "padding_work": r.share("pad_seconds"),
            "text_work": r.share("text_seconds"),
            "padding": r.padding,
            "peak_gib": r.numbers["peak_bytes"] / 2**30,
            "batches": r.numbers["calls"],
            "agreement": agrees,
        }
        for r, agrees in zip(results, agreements, strict=True)
    ]


def table(data: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    columns = [
        ("", _name),
        ("hours", lambda r: _number(r["audio_hours"])),
        ("whole, s", lambda r: _number(r["whole_seconds"])),
        ("audio h/h", lambda r: _number(r["whole_rate"])),
        ("/ peer", lambda r: _number(r["whole_to_peer"])),
        ("/ limit", lambda r: _number(r["whole_to_limit"])),
        ("run, s", lambda r: _number(r["run_seconds"])),
        ("audio h/h", lambda r: _number(r["run_rate"])),
        ("/ peer", lambda r: _number(r["run_to_peer"])),
        ("/ limit", lambda r: _number(r["run_to_limit"])),
        ("busy (driver)", lambda r: _percent(r["busy"])),
        ("busy (events)", lambda r: _percent(r["on_device"])),
        ("padding", lambda r: _percent(r["padding"])),
        ("peak GiB", lambda r: _number(r["peak_gib"])),
        ("batches", lambda r: _number(r["batches"])),
        ("same frames", lambda r: _percent(r["agreement"] and r["agreement"]["frames"], 2)),
    ]
    return _markdown(columns, data)


def times(data: Sequence[dict[str, Any]]) -> str:
    """Where the time of each variant went, without its start, as Markdown."""
    columns = [
        ("", _name),
        ("on the device", lambda r: _percent(r["on_device"], 1)),
        ("padding and pinning", lambda r: _percent(r["padding_work"], 1)),
        ("making texts", lambda r: _percent(r["text_work"], 1)),
        ("outside the model", lambda r: _percent(_outside(r), 1)),
        ("CPU s, whole", lambda r: _number(r["cpu_seconds"])),
    ]
    return _markdown(columns, [row for row in data if row["on_device"] is not None])


def scaling(data: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each variant that ran on one GPU and on several with as much for each."""
    said = []
    for row in (row for row in data if row["gpus"] > 1):
        n = row["gpus"]
        for one in (r for r in data if r["gpus"] == 1 and r["variant"] == row["variant"]):
            run, whole = (row[key] / n / one[key] for key in ("run_rate", "whole_rate"))
            said.append(
                f"{row['variant']}: scaling efficiency from 1 to {n} GPUs {run:.3f} without the "
                f"start, {whole:.3f} of the whole (weak scaling: as much audio for each GPU)"
            )
    return said


def _markdown(columns: Sequence[tuple[str, Any]], data: Sequence[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(name for name, _ in columns) + " |"]
    lines.append("| --- " + "| ---: " * (len(columns) - 1) + "|")
    lines += ["| " + " | ".join(cell(row) for _, cell in columns) + " |" for row in data]
    return "\n".join(lines)


def _name(row: dict[str, Any]) -> str:
    return row["variant"] + (f", {row['gpus']} GPUs" if row["gpus"] > 1 else "")


def _outside(row: dict[str, Any]) -> float:
    """Share of reading items, the engine, and writing: all that is not in the model's call."""
    return 1 - float(row["on_device"] + row["padding_work"] + row["text_work"])


def _like(result: Result, limit: Result) -> float:
    """The limit's whole time for this much audio, over this one's."""
    start = limit.whole_seconds - limit.run_seconds
    best = start + result.audio_seconds / (limit.run_rate * result.gpus)
    return best / result.whole_seconds


def _read(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8") as lines:
        return dict(line.rstrip("\n").split(" ", 1) for line in lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percent(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{100 * value:.{digits}f} %"
