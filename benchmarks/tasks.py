"""What the items do: the same functions for espnet3 and for what it is compared with.

The standard library alone, so that no peer pays for imports of ours.
"""

import importlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen


def text(idx: int) -> str:
    """One line of text, for next to nothing."""
    return f"utt{idx:09d} ELEVEN TWENTY SEVEN FIFTY SEVEN"


def clock(idx: int) -> str:
    """When it was called: seconds of the clock that all processes of a machine share."""
    return repr(time.monotonic())


def nap(idx: int, seconds: Sequence[float]) -> str:
    """Take `seconds[idx]`, without a core; returns when it began and when it ended."""
    begin = time.monotonic()
    time.sleep(seconds[idx])
    return f"{begin!r} {time.monotonic()!r}"


def doze(idx: int, seconds: float) -> str:
    """Take `seconds`, without a core."""
    time.sleep(seconds)
    return text(idx)


def logged(idx: int, log: str, seconds: float) -> str:
    """Take `seconds`, after noting in a file of this process that `idx` was begun."""
    with open(Path(log) / str(os.getpid()), "a", encoding="ascii") as file:
        file.write(f"{idx}\n")
    time.sleep(seconds)
    return f"utt{idx:06d} {idx * 2654435761 % 2**32:08x}"


def decode(idx: int, dataset: Sequence[dict[str, Any]], model: Callable[..., Any]) -> str:
    """Decode one utterance of the recipe; returns its line of ``text.scp``."""
    index, again = idx % len(dataset), idx // len(dataset)
    item = dataset[index]
    return f"{item['utt_id']}.{again} {model(speech=item['speech'])['text']}"


def convert(idx: int, sources: str, out: str) -> str:
    """Resample one file to 16 kHz and write it; returns its line of ``utt2num_samples``."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(f"{sources}/{idx}.flac", dtype="float32")
    samples = soxr.resample(samples, rate, 16000)
    soundfile.write(f"{out}/utt{idx:06d}.flac", samples, 16000, subtype="PCM_16")
    return f"utt{idx:06d} {len(samples)}"


def fetch(idx: int, urls: Sequence[str], out: str) -> str:
    """Download one file, as a script would; returns its name."""
    with urlopen(urls[idx]) as response, open(f"{out}/{idx}", "wb") as file:
        shutil.copyfileobj(response, file, 1 << 16)
    return str(idx)


def unpack(idx: int, sources: str, out: str) -> str:
    """Unpack one archive, as a script would; returns the name of its directory."""
    shutil.unpack_archive(f"{sources}/{idx}.tar.gz", f"{out}/{idx}")
    return str(idx)


def statistics(idx: int, dataset: Sequence[dict[str, Any]]) -> str:
    """Shape and sums of the features of one recording, as `collect_stats` keeps them."""
    import numpy as np

    from benchmarks.logmel import logmel

    item = dataset[idx]
    feats = logmel(item)["feats"].astype(np.float64)
    row = np.concatenate([[len(feats)], feats.sum(axis=0), np.square(feats).sum(axis=0)])
    shape = ",".join(map(str, feats.shape))
    return f"{item['utt_id']} {shape} {row.tobytes().hex()}"


def build(task: str, options: dict[str, Any]) -> dict[str, Any]:
    """Build the env of a task: the keyword arguments of its function.

    Args:
        task: name of a function of this module.
        options: those arguments; for ``decode``, the ``split`` of the recipe in the working
            directory; for ``statistics``, the arguments of its data set.
    """
    if task == "statistics":
        return {"dataset": importlib.import_module("benchmarks.logmel").Dataset(**options)}
    if task != "decode":
        return options
    source = Path("data/source/an4/etc")
    model = importlib.import_module("src.pocketsphinx_model").PocketSphinxModel(
        lm=str(source / "an4.ug.lm"), dictionary=str(source / "an4.dic")
    )
    dataset = importlib.import_module("dataset").Dataset(split=options["split"], recipe_dir=".")
    return {"dataset": dataset, "model": model}
