"""What `benchmarks.gpu` calls in measured processes: espnet3, and the model by itself."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu_corpus import Recordings, read
from benchmarks.gpu_model import Recogniser

TEXTS = "text.scp"
"""What every variant writes into its directory: a line for each utterance."""


def ours(
    corpus: str,
    items: int,
    model: dict[str, Any],
    device: str | None,
    parallel: dict[str, Any],
    run: dict[str, Any],
    batch_size: int,
    lengths_known: bool,
    out: str,
) -> None:
    """A test set through `InferenceRunner`, as a recipe does it; writes `TEXTS` into `out`.

    Args:
        corpus: directory of the recordings.
        items: how many of its utterances.
        model: arguments of `Recogniser`.
        device: as the config's ``device``; None lets the provider choose.
        parallel: the ``parallel:`` block.
        run: the ``run:`` block.
        batch_size: most utterances of a batch.
        lengths_known: give the runner the durations.
        out: the run directory.
    """
    from benchmarks.gpu_provider import RecordingsProvider
    from espnet3.parallel.parallel import set_parallel
    from espnet3.systems.base.inference_runner import InferenceRunner

    set_parallel(parallel, run=run)
    config = {
        "model": {"_target_": "benchmarks.gpu_model.Recogniser", **model},
        "device": device,
        "corpus": corpus,
        "n_items": items,
    }
    provider = RecordingsProvider(config, {"input_key": "speech", "output_keys": ["text"]})
    durations = read(corpus).durations(items) if lengths_known else None
    InferenceRunner(provider, batch_size=batch_size, output_dir=out)(range(items), durations)


def limit(
    corpus: str, items: int, model: dict[str, Any], device: str, batch_seconds: float, out: str
) -> dict[str, float]:
    """The model alone: all audio is decoded, sorted and padded before the clock starts.

    One batch goes before it too, so that no library has anything left to load. Batches are copied
    to the device while it computes, and nothing waits for a result until the last is there.

    Returns:
        ``run_seconds``: of the model; ``preparing_seconds``: of what a run would not do beforehand;
        ``peak_bytes``: of the device's memory; audio, padded seconds and ``calls``.
    """
    recogniser = Recogniser(device=device, **model)
    begin = time.monotonic()
    batches = _packed(recogniser, corpus, items, batch_seconds)
    recogniser.ids(*batches[0][1:]).cpu()
    prepared = time.monotonic()
    ids = [recogniser.ids(batch, lengths) for _, batch, lengths in batches]
    done = [one.cpu() for one in ids]
    end = time.monotonic()
    texts = [
        text
        for one, (_, _, lengths) in zip(done, batches, strict=True)
        for text in recogniser.texts(one, lengths)
    ]
    dataset = Recordings(corpus, items)
    order = [i for indices, _, _ in batches for i in indices]
    by_index = dict(zip(order, texts, strict=True))
    Path(out).mkdir(parents=True, exist_ok=True)
    with (Path(out) / TEXTS).open("w", encoding="utf-8") as file:
        file.writelines(f"{dataset.utt_id(i)} {by_index[i]}\n" for i in range(items))
    return {
        "run_seconds": end - prepared,
        "preparing_seconds": prepared - begin + time.monotonic() - end,
        "peak_bytes": recogniser.peak_bytes(),
        "calls": len(batches),
        "audio_seconds": sum(sum(lengths) for _, _, lengths in batches) / 16000,
        "padded_seconds": sum(batch.numel() for _, batch, _ in batches) / 16000,
    }


def pack(seconds: Sequence[float], batch_seconds: float) -> list[list[int]]:
    """All indices, longest first, in batches whose items times longest are within a bound."""
    batches: list[list[int]] = []
    for i in sorted(range(len(seconds)), key=lambda i: -seconds[i]):
        if batches and (len(batches[-1]) + 1) * seconds[batches[-1][0]] <= batch_seconds:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def _packed(
    recogniser: Recogniser, corpus: str, items: int, batch_seconds: float
) -> list[tuple[list[int], Any, list[int]]]:
    dataset, recordings = Recordings(corpus, items), read(corpus)
    with ThreadPoolExecutor() as pool:
        n_files = min(items, len(recordings.seconds))
        speech = list(pool.map(lambda i: dataset[i]["speech"], range(n_files)))
    return [
        (batch, *recogniser.pad([speech[i % n_files] for i in batch]))
        for batch in pack(recordings.durations(items), batch_seconds)
    ]
