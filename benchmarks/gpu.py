"""One GPU kept busy: ``python -m benchmarks.gpu``; see README.md."""

import json
import subprocess
import time
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks import gpu_corpus, machine
from benchmarks.gpu_model import SIZES
from benchmarks.gpu_report import agreement, rows, scaling, table, times
from benchmarks.gpu_variants import (
    AHEAD,
    BOTH,
    COUNT,
    LENGTH,
    LIMIT,
    PACKAGE,
    PEER,
    Result,
    Setting,
    measure,
)
from benchmarks.measure import MeasurementFailed

NAMES = {
    "package": PACKAGE, "peer": PEER, "count": COUNT, "ahead": AHEAD, "length": LENGTH,
    "both": BOTH, "limit": LIMIT,
}  # fmt: skip
_BEGIN = time.monotonic()


@click.command()
@click.option("--model", type=click.Choice(list(SIZES)), default="tiny", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32")
@click.option("--hours", type=float, default=1.0, show_default=True, help="Audio for each GPU.")
@click.option("--long", "long_hours", type=float, help="Ours once more, on so many hours.")
@click.option("--gpus", type=click.IntRange(1), default=1, help="More than one: scaling.")
@click.option(
    "--lengths", type=click.Choice(list(gpu_corpus.LENGTHS)), default="librispeech",
    show_default=True,
)  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True)
@click.option("--only", help=f"Some variants, comma between: {', '.join(NAMES)}.")
@click.option(
    "--espnet", type=click.Path(exists=True, path_type=Path),
    help="The wheel of espnet 202611, or where it is installed, to run its own code too.",
)  # fmt: skip
@click.option("--timeout", type=float, default=300.0, show_default=True, help="Of each, seconds.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="All figures, JSON.")
@click.option("--cpu", is_flag=True, help="Compute on the CPU.")
def main(
    model: str,
    dtype: str,
    hours: float,
    long_hours: float | None,
    gpus: int,
    lengths: str,
    batch_size: int,
    only: str | None,
    espnet: Path | None,
    timeout: float,
    out: Path | None,
    cpu: bool,
) -> None:
    """Decode the same recordings with the same model in every way; rates, ratios, texts."""
    with TemporaryDirectory(prefix="benchmarks.gpu.") as name:
        directory = Path(name)
        facts = {**machine.describe(directory), **_gpu_facts(cpu)}
        _say("; ".join(f"{key} {value}" for key, value in facts.items()))
        corpus = gpu_corpus.make(lengths, hours, directory / "corpus")
        (directory / "runs").mkdir()
        setting = Setting(
            corpus, {"size": model, "dtype": dtype}, not cpu, batch_size,
            espnet and espnet.absolute(), timeout, directory / "runs",
        )  # fmt: skip
        made = _corpus_facts(setting, lengths)
        _say("; ".join(f"{key} {value}" for key, value in made.items()))
        plan = _plan(corpus.items, gpus, only, espnet is not None)
        if long_hours:
            plan.append((BOTH, round(corpus.items * long_hours / hours), 1, False))
        _warm_up(setting)
        results, agreements, failed = _measure_all(plan, setting)
    data = rows(results, agreements)
    click.echo(f"\n{table(data)}\n\nWhere the time without the start goes:\n\n{times(data)}")
    efficiency = scaling(data)
    for line in efficiency:
        click.echo(f"\n{line}")
    for row in data[1:]:
        if row["agreement"] and row["agreement"]["missing"]:
            failed[row["variant"]] = f"{row['agreement']['missing']} texts are not the peer's"
    for name, error in failed.items():
        click.echo(f"\n{name} FAILED: {error.splitlines()[-1]}")
    if out is not None:
        figures = {"facts": {**facts, **made}, "variants": data, "scaling": efficiency}
        figures["failed"] = failed
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _plan(
    items: int, gpus: int, only: str | None, package_is_there: bool
) -> list[tuple[str, int, int, bool]]:
    """Variants with utterances, GPUs, and whether workers are started.

    Several GPUs get as much more to do as they are (weak scaling), so that a run takes as long.
    """
    wanted = only.split(",") if only else list(NAMES)
    unknown = [key for key in wanted if key not in NAMES]
    if unknown:
        raise click.BadParameter(f"{unknown[0]} is none of {', '.join(NAMES)}", param_hint="--only")
    if gpus == 1:
        left_out = () if package_is_there else ("package",)
        return [(NAMES[key], items, 1, False) for key in wanted if key not in left_out]
    plan = [
        (PEER, items * gpus, gpus, False),
        (BOTH, items, 1, True),
        (BOTH, items * gpus, gpus, True),
        (LIMIT, items, 1, False),
    ]
    return [step for step in plan if step[0] in [NAMES[key] for key in wanted]]


def _warm_up(setting: Setting) -> None:
    """Have libraries read from disk once, so that the first variant does not pay for it."""
    try:
        measure(LIMIT, setting, min(setting.corpus.items, 64))
    except MeasurementFailed as error:
        _say(f"warming up FAILED: {error}")


def _measure_all(
    plan: list[tuple[str, int, int, bool]], setting: Setting
) -> tuple[list[Result], list[dict[str, float] | None], dict[str, str]]:
    """Every variant; how far its texts agree with those of the first with as many; what failed."""
    results: list[Result] = []
    agreements: list[dict[str, float] | None] = []
    failed: dict[str, str] = {}
    first_of: dict[int, Path] = {}
    for name, items, gpus, dask in plan:
        label = f"{name}, {gpus} GPUs" if gpus > 1 else name
        _say(f"{label}: {items} utterances ...")
        try:
            result = measure(name, setting, items, gpus, dask=dask)
        except MeasurementFailed as error:
            failed[label] = str(error)
            _say(f"{label} FAILED: {error}")
            continue
        results.append(result)
        first = first_of.setdefault(items, result.texts)
        agreements.append(None if first == result.texts else agreement(first, result.texts))
        _say(
            f"{label}: {result.audio_seconds / 3600:.2f} h of audio; whole "
            f"{result.whole_seconds:.1f} s, {result.whole_rate:,.0f} h/h; without the start "
            f"{result.run_seconds:.1f} s, {result.run_rate:,.0f} h/h; "
            f"CPU {result.cpu_seconds:.1f} s"
        )
    return results, agreements, failed


def _corpus_facts(setting: Setting, lengths: str) -> dict[str, Any]:
    corpus = setting.corpus
    seconds = corpus.durations()
    return {
        "lengths": lengths,
        "hours": round(sum(seconds) / 3600, 3),
        "utterances": len(seconds),
        "mean seconds": round(sum(seconds) / len(seconds), 2),
        "longest": round(max(seconds), 2),
        "distinct files": len(corpus.seconds),
        "MB of FLAC": round(gpu_corpus.megabytes(corpus)),
        "model": "-".join(setting.model.values()),
        "batch_size": setting.batch_size,
        "batch_seconds": round(setting.batch_seconds, 2),
    }


def _gpu_facts(cpu: bool) -> dict[str, str]:
    """Versions of what computes; the GPU as the driver names it."""
    found = {}
    for name in ("torch", "transformers"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    if not cpu:
        ask = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        try:
            said = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=True)
            found["GPU"] = said.stdout.strip().replace("\n", " and ")
        except (OSError, subprocess.SubprocessError) as error:
            found["GPU"] = f"not known ({error})"
    return found


def _say(text: str) -> None:
    click.echo(f"[{time.monotonic() - _BEGIN:6.1f} s] {text}")


if __name__ == "__main__":
    main()
