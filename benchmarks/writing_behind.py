"""Writing behind: the same run with `InferenceRunner`'s hooks, and with one of the user's."""

import os
import time
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measure import MeasurementFailed, Options, Sample, Table, child, in_turn
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import parallel_session
from espnet3.systems.base.inference_runner import InferenceRunner

N, N_QUICK = 1000, 40
RATE, SECONDS, MODEL_SECONDS = 16000, 10, 0.004
"""Of each item's audio; and what a model takes for one."""

KINDS = {
    "WAV": {"audio": {"type": "wav", "sample_rate": RATE}},
    "FLAC": {"audio": {"type": "flac", "sample_rate": RATE}},
    "a matrix of 1000 x 80 in an ark": {"feats": {"type": "ark"}},
}
AT_ONCE, BEHIND = "written at once", "written behind"
MODELS = {
    "waits": f"a model that waits {1000 * MODEL_SECONDS:g} ms",
    "core": "one that takes as long of a core",
    "gpu": "one of convolutions on the GPU",
}


def run(options: Options) -> list[Table]:
    """Calls in process: what an item is written as, and a model that uses a core or does not."""
    n = N_QUICK if options.quick else N
    models = [model for model in MODELS if model != "gpu" or _has_gpu()]
    tables = []
    for kind, model in product(KINDS, models):
        table = Table(f"{n} items, each {kind}; {MODELS[model]}")
        variants = {
            name: partial(_sample, options, n, kind, model, behind)
            for name, behind in ((AT_ONCE, False), (BEHIND, True))
        }
        table.rows = in_turn(variants, options.repeats)
        tables.append(table)
    return tables


def _has_gpu() -> bool:
    return Path("/dev/nvidiactl").exists() and find_spec("torch") is not None


def _sample(options: Options, n: int, kind: str, model: str, behind: bool) -> Sample:
    kwargs = {"out": options.place(), "n": n, "kind": kind, "model": model, "behind": behind}
    returned: Sample = child("benchmarks.writing_behind:call", kwargs).returned
    return returned


class Items:
    """A dataset that costs nothing."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"utt_id": f"utt{index:06d}", "number": index}


class Model:
    """Makes the same of every item, after a while."""

    def __init__(self, field: str, kind: str) -> None:
        shape = (1000, 80) if field == "feats" else (RATE * SECONDS,)
        noise = np.random.default_rng(0).normal(0, 0.05, shape).astype(np.float32)
        self.field = field
        self.make = {"waits": Waits, "core": TakesACore, "gpu": OnTheGpu}[kind](noise)

    def __call__(self, number: int) -> dict[str, Any]:
        return {self.field: self.make()}


class Waits:
    """As for something that works elsewhere."""

    def __init__(self, noise: np.ndarray[Any, Any]) -> None:
        self.noise = noise

    def __call__(self) -> np.ndarray[Any, Any]:
        time.sleep(MODEL_SECONDS)
        return self.noise


class TakesACore(Waits):
    """As long."""

    def __call__(self) -> np.ndarray[Any, Any]:
        until, frames = perf_counter() + MODEL_SECONDS, np.ones((64, 64), np.float32)
        while perf_counter() < until:
            frames = np.tanh(frames @ frames)
        return self.noise


class OnTheGpu:
    """Sixteen residual convolutions of 64 channels: what it launches takes the GIL."""

    def __init__(self, noise: np.ndarray[Any, Any]) -> None:
        import torch

        self.torch, self.shape = torch, noise.shape
        self.noise = torch.from_numpy(noise.reshape(1, 1, -1)).cuda()
        torch.manual_seed(0)
        self.layers = [torch.nn.Conv1d(64, 64, 9, padding=4).cuda() for _ in range(16)]

    def __call__(self) -> np.ndarray[Any, Any]:
        with self.torch.inference_mode():
            frames = self.noise.expand(1, 64, -1)
            for layer in self.layers:
                frames = frames + layer(frames).relu()
            made: np.ndarray[Any, Any] = frames[0, 0].clamp(-1, 1).cpu().numpy()
        return made.reshape(self.shape)


class Provider(EnvironmentProvider):
    """The dataset, the model, and how its outputs are written."""

    def build_env_local(self) -> dict[str, Any]:
        """Build it."""
        artifacts = KINDS[self.config["kind"]]
        model = Model(next(iter(artifacts)), self.config["model"])
        names = {"input_key": "number", "output_artifacts": artifacts}
        return {"dataset": Items(), "model": model, **names}


class AtOnce(InferenceRunner):
    """A hook of the user's."""

    @staticmethod
    def write_record(
        writers: dict[str, Any], result: Any, state: dict[str, Any], **env: Any
    ) -> None:
        """Write it, in the thread of `forward`."""
        InferenceRunner.write_record(writers, result, state)


def call(out: str, n: int, kind: str, model: str, behind: bool) -> dict[str, Any]:
    """Runs in a measured process: the run, with its merge."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    provider = Provider({"kind": kind, "model": model})
    runner = InferenceRunner if behind else AtOnce
    with parallel_session():
        runner(provider, output_dir=f"{out}/first")(range(2))
        begin, cpu = perf_counter(), time.process_time()
        runner(provider, output_dir=f"{out}/run")(range(n))
        seconds = perf_counter() - begin
        used = time.process_time() - cpu
    n_lines = sum(len(path.read_text().splitlines()) for path in Path(out, "run").glob("*.scp"))
    if n_lines != n:
        raise MeasurementFailed(f"{n_lines} lines")
    return {"seconds": seconds, "CPU s": used}
