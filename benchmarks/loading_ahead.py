"""Loading ahead: the same run with `prefetch` and without, where reading costs time or a core."""

import os
import time
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import soundfile

from benchmarks.measure import MeasurementFailed, Options, Sample, Table, child, in_turn
from espnet3.components.data.manifest import ManifestDataset, write_manifest
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.env_provider import EnvironmentProvider

FILES, FILES_QUICK = 400, 20
RATE, SECONDS, MODEL_SECONDS = 16000, 60, 0.02
"""Of a recording; and what the model takes for one, without a core, as on a GPU."""

N_SLOW, N_SLOW_QUICK = 1000, 50
ROUND_TRIP = 0.02
"""Seconds that a slow disk takes for an item, and the model, too."""

OFF, ON = "prefetch: false", "prefetch: true"


def run(options: Options) -> list[Table]:
    """Calls without the start of workers, in process and with two workers."""
    place = options.place()
    n_files = FILES_QUICK if options.quick else FILES
    child("benchmarks.loading_ahead:make", {"out": place, "n": n_files})
    flac = {"dataset": str(place / "all.tsv"), "n": n_files}
    slow = {"dataset": "", "n": N_SLOW_QUICK if options.quick else N_SLOW}
    what = {
        f"{n_files} FLAC files of {SECONDS} s, a model of CPU": {**flac, "model": "cpu"},
        f"the same, a model that waits {MODEL_SECONDS} s": {**flac, "model": "gpu"},
        f"{slow['n']} items, {ROUND_TRIP} s to read, a model that waits as long": {
            **slow,
            "model": "gpu",
        },
    }
    return [
        _table(options, f"{title}, {workers} worker{'s' * (workers > 1)}", kwargs, workers)
        for title, kwargs in what.items()
        for workers in (1, 2)
    ]


def _table(options: Options, title: str, kwargs: dict[str, Any], workers: int) -> Table:
    table = Table(title)
    variants = {
        name: partial(_sample, options, {**kwargs, "workers": workers, "prefetch": prefetch})
        for name, prefetch in ((OFF, False), (ON, True))
    }
    table.rows = in_turn(variants, options.repeats)
    return table


def _sample(options: Options, kwargs: dict[str, Any]) -> Sample:
    returned: Sample = child(
        "benchmarks.loading_ahead:call", {"out": options.place(), **kwargs}
    ).returned
    return returned


def make(out: str, n: int) -> None:
    """Runs in a measured process: write the recordings, and a manifest of them."""
    random, rows = np.random.default_rng(0), []
    for i in range(n):
        samples = random.normal(scale=0.05, size=RATE * SECONDS).cumsum() % 1 - 0.5
        soundfile.write(f"{out}/{i}.flac", samples, RATE)
        rows.append({"utt_id": f"utt{i:06d}", "audio": f"{i}.flac"})
    write_manifest(Path(out) / "all.tsv", rows)


class Slow:
    """Items from a disk that is far away."""

    def __len__(self) -> int:
        return N_SLOW

    def __getitem__(self, index: int) -> dict[str, Any]:
        time.sleep(ROUND_TRIP)
        return {"speech": np.zeros(16, np.float32)}


class Provider(EnvironmentProvider):
    """A dataset, and a model of one's own choice."""

    def build_env_local(self) -> dict[str, Any]:
        """Build it."""
        manifest = self.config["dataset"]
        dataset = ManifestDataset(manifest) if manifest else Slow()
        return {"dataset": dataset, "model": {"cpu": of_cpu, "gpu": waiting}[self.config["model"]]}


class Sums(BaseRunner):
    """A number for each item."""

    @staticmethod
    def forward(idx: int, dataset: Any, model: Any) -> float:
        """Read it, and use it."""
        result: float = model(dataset[idx]["speech"])
        return result


def of_cpu(speech: np.ndarray[Any, Any]) -> float:
    """A model that takes about as long as decoding does, mostly without the GIL."""
    frames = np.resize(speech, (400, 400))
    for _ in range(10):
        frames = np.tanh(frames @ frames / 20)
    return float(frames.sum())


def waiting(speech: np.ndarray[Any, Any]) -> float:
    """A model that works elsewhere, as on a GPU."""
    time.sleep(MODEL_SECONDS)
    return float(speech.sum())


def call(
    out: str, dataset: str, n: int, model: str, workers: int, prefetch: bool
) -> dict[str, float]:
    """Runs in a measured process: the run, its workers up."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from espnet3.parallel.parallel import parallel_session

    provider = Provider({"dataset": dataset, "model": model})
    config = {"env": "local", "n_workers": workers}
    with parallel_session(config, {"prefetch": prefetch}):
        Sums(provider, output_dir=f"{out}/first")(range(2))
        begin, cpu = perf_counter(), os.times()
        results = Sums(provider, output_dir=f"{out}/run")(range(n))
        seconds = perf_counter() - begin
        now = os.times()
    if len(results) != n:
        raise MeasurementFailed(f"{len(results)} results")
    used = now.user + now.system - cpu.user - cpu.system  # of this process
    return {"seconds": seconds, "CPU s (driver)": used}
