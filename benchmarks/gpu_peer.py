"""ESPnet3 202611 on a test set: its package where it is given, else what it does, done again.

Its package has the name of ours, so both never meet in one process.

What it does was read in the sources of `espnet` 202611 on PyPI:

* `espnet3/parallel/base_runner.py`: `__call__` cuts the indices, in the order of the data set, into
  lists of `batch_size`; `_plan_shards` gives each of `n_workers` an equal contiguous part of those
  lists; `_run_one_shard` calls `forward` on one list after the other and writes what it returns.
* `espnet3/systems/base/inference_runner.py`: `forward` begins with
  ``samples = [dataset[i] for i in indices]`` and then calls the model with all of them;
  `write_record` writes a line for each to ``<field>.scp`` of the shard; `merge` concatenates.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_corpus import Recordings
from benchmarks.gpu_model import Recogniser
from benchmarks.gpu_run import TEXTS


def again(
    corpus: str,
    items: int,
    model: dict[str, Any],
    device: str,
    batch_size: int,
    workers: int,
    out: str,
) -> None:
    """What it does, without its package; writes `TEXTS` into `out`.

    Args:
        corpus: directory of the recordings.
        items: how many of its utterances.
        model: arguments of `Recogniser`.
        device: that each process computes on.
        batch_size: utterances of a batch.
        workers: processes, each with a GPU of its own if there are several.
        out: a directory.
    """
    batches = [list(range(i, min(i + batch_size, items))) for i in range(0, items, batch_size)]
    bounds = [len(batches) * i // workers for i in range(workers + 1)]
    shards = [batches[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    dirs = [Path(out) / f"split.{number}" for number in range(workers)]
    if workers == 1:
        _shard(corpus, items, model, device, shards[0], dirs[0])
    else:
        spawn = multiprocessing.get_context("spawn")
        processes = [
            spawn.Process(
                target=_shard, args=(corpus, items, model, device, shard, directory, number)
            )
            for number, (shard, directory) in enumerate(zip(shards, dirs, strict=True))
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RuntimeError("a shard failed")
    with (Path(out) / TEXTS).open("w", encoding="utf-8") as merged:
        for directory in dirs:
            merged.write((directory / TEXTS).read_text(encoding="utf-8"))


def package(
    path: str,
    corpus: str,
    items: int,
    model: dict[str, Any],
    device: str,
    batch_size: int,
    out: str,
) -> None:
    """Its own `InferenceRunner`, in one process; writes `TEXTS` into `out`.

    Args:
        path: its wheel, or a directory that it is installed in.
        corpus: directory of the recordings.
        items: how many of its utterances.
        model: arguments of `Recogniser`.
        device: where to compute.
        batch_size: utterances of a batch.
        out: its ``output_dir``.
    """
    sys.path.insert(0, path)
    from espnet3.parallel.env_provider import EnvironmentProvider
    from espnet3.systems.base import inference_runner

    if not str(inference_runner.__file__).startswith(path):
        raise RuntimeError(f"{inference_runner.__file__} is not that of {path}")

    class Provider(EnvironmentProvider):
        def build_worker_setup_fn(self) -> Any:
            return self.build_env_local

        def build_env_local(self) -> dict[str, Any]:
            return {
                "dataset": Recordings(corpus, items),
                "model": Recogniser(device=device, **model),
                "input_key": "speech",
                "output_keys": ["text"],
                "output_fn": with_ids,
            }

    runner_class: Any = inference_runner.InferenceRunner
    runner = runner_class(
        Provider(None), hyp_key="text", ref_key=[], batch_size=batch_size, output_dir=out
    )
    runner(range(items))


def with_ids(data: Sequence[Any], model_output: Sequence[Any], idx: Any) -> list[dict[str, str]]:
    """The output function of a recipe: texts with their utterance ids."""
    return [
        {**text, "utt_id": item["utt_id"]} for text, item in zip(model_output, data, strict=True)
    ]


def _shard(
    corpus: str,
    items: int,
    model: dict[str, Any],
    device: str,
    batches: Sequence[Sequence[int]],
    directory: Path,
    gpu: int | None = None,
) -> None:
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)  # before anything asks CUDA
    dataset, recogniser = Recordings(corpus, items), Recogniser(device=device, **model)
    directory.mkdir(parents=True)
    with (directory / TEXTS).open("w", encoding="utf-8") as file:
        for indices in batches:
            samples = [dataset[i] for i in indices]
            outputs = recogniser([sample["speech"] for sample in samples])
            for output in with_ids(samples, outputs, indices):
                file.write(f"{output['utt_id']} {output['text']}\n")
