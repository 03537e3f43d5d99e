"""Real speech: the recipe mini_an4, each of its few utterances many times."""

import importlib
import shutil
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import peers
from benchmarks.measure import (
    OURS,
    ROOT,
    MeasurementFailed,
    Options,
    Sample,
    Table,
    child,
    in_turn,
    python,
)
from benchmarks.peers import ours_beside

RECIPE = ROOT / "egs3" / "mini_an4" / "asr"
SPLIT = "train"
TIMES, TIMES_QUICK = 40, 5
RATE = "audio s / s"


def run(options: Options) -> list[Table]:
    """Whole calls, building of data set and model included: `infer` of the recipe, and others."""
    recipe = options.place() / "asr"
    shutil.copytree(RECIPE, recipe, ignore=shutil.ignore_patterns("data", "exp", "__pycache__"))
    config = ["--training_config", "conf/training.yaml"]
    python(["run.py", "--stages", "create_dataset", *config], cwd=recipe)
    times = TIMES_QUICK if options.quick else TIMES
    size = child("benchmarks.speech:size", {}, recipe).returned
    audio = size["seconds"] * times
    measure = partial(_sample, options, recipe, times, size)
    variants = ours_beside(measure, peers.POOL, peers.JOBLIB, peers.STATIC)
    table = Table(f"Decoding {size['items'] * times} utterances, {audio:.0f} s of speech")
    table.rows = in_turn(variants, options.repeats)
    table.notes = [
        f"{size['items']} recordings of AN4, {times} times each; all wrote the same hypotheses"
    ]
    return [table]


def size() -> dict[str, float]:
    """Runs in a measured process: what the recipe has."""
    dataset = importlib.import_module("dataset")  # of the recipe, the working directory
    durations = dataset.Dataset(split=SPLIT, recipe_dir=".").durations()
    return {"items": len(durations), "seconds": sum(durations)}


def infer_repeated(times: int, workers: int, out: str) -> dict[str, float]:
    """Runs in a measured process: `infer` with the recipe's own config, on a longer test set."""
    from espnet3.systems.base.inference import infer
    from espnet3.utils.config import load_config

    config = load_config(["conf/inference.yaml"])
    config.inference_dir = out
    config.parallel.n_workers = workers
    config.provider = {"_target_": "benchmarks.repeated.RepeatedProvider"}
    config.dataset.test = [{"name": "all", "data_src_args": {"split": SPLIT}}]
    config.repeat = times
    begin = perf_counter()
    infer(config)
    return {"seconds": perf_counter() - begin}


def _sample(
    options: Options, recipe: Path, times: int, size: dict[str, Any], how: str, workers: int
) -> Sample:
    out = options.place()
    if how == OURS:
        function, lines = "benchmarks.speech:infer_repeated", out / "all" / "text.scp"
        call = child(function, {"times": times, "workers": workers, "out": out}, recipe)
    else:
        lines = out / "lines"
        kwargs = {"how": how, "workers": workers, "task": "decode", "options": {"split": SPLIT}}
        kwargs |= {"n": size["items"] * times, "out": lines}
        call = child("benchmarks.peers:run", kwargs, recipe)
    seconds = call.returned["seconds"]
    expected = recipe / "expected"  # of whoever came first
    if not expected.exists():
        shutil.copyfile(lines, expected)
    if lines.read_bytes() != expected.read_bytes():
        raise MeasurementFailed(f"{how}, {workers} workers: other hypotheses than before")
    return {RATE: size["seconds"] * times / seconds, "seconds": seconds}
