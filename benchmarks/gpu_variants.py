"""The variants of the GPU benchmark, each run and measured in a process of its own."""

import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu_corpus import Corpus
from benchmarks.gpu_model import Meter
from benchmarks.gpu_run import TEXTS
from benchmarks.gpu_watch import Watch
from benchmarks.measure import MeasurementFailed, child
from espnet3.errors import ConfigError
from espnet3.parallel.config import parse_parallel

PEER = "ESPnet3 202611's way"
PACKAGE = "ESPnet3 202611, the package"
COUNT = "by count, read inline"
AHEAD = "loading ahead"
LENGTH = "by length"
BOTH = "by length, loading ahead"
LIMIT = "the model alone"

_RUN = {
    COUNT: {"prefetch": False},
    AHEAD: {"prefetch": True},
    LENGTH: {"prefetch": False, "batch_seconds": None},
    BOTH: {"prefetch": True, "batch_seconds": None},
}
"""The ``run:`` block of each of ours; the bound is the setting's."""

_MOST_ITEMS = 1024
"""Of a batch by length; the bound on its seconds is to be what ends it."""


@dataclass(frozen=True)
class Setting:
    """What all variants have in common.

    Attributes:
        corpus: the recordings.
        model: arguments of the recogniser.
        on_gpu: where it computes.
        batch_size: utterances of a batch by count.
        package: where ESPnet3 202611 is; None leaves that variant out.
        timeout: seconds after which a variant is given up.
        directory: for files.
    """

    corpus: Corpus
    model: Mapping[str, Any]
    on_gpu: bool
    batch_size: int
    package: Path | None
    timeout: float
    directory: Path

    @property
    def batch_seconds(self) -> float:
        """Bound of a batch by length: what `batch_size` of the longest utterances take.

        Both kinds of batches need the same memory then.
        """
        return self.batch_size * max(self.corpus.seconds)


@dataclass
class Result:
    """What one variant did.

    Attributes:
        name: of the variant.
        gpus: workers, each with a GPU; 1 without any.
        whole_seconds: from the start of the process to its end, imports and model included. For
            `LIMIT` less what is prepared before its clock starts.
        run_seconds: from the begin of the first batch to the end of the last.
        audio_seconds: of all utterances.
        cpu_seconds: of all cores, for the whole of it.
        busy: share of `run_seconds` that the driver saw a kernel run; None if it was not asked.
        numbers: sums over the processes, as `Meter` names them.
        texts: the file with its texts.
    """

    name: str
    gpus: int
    whole_seconds: float
    run_seconds: float
    audio_seconds: float
    cpu_seconds: float
    busy: float | None
    numbers: dict[str, float]
    texts: Path = field(default=Path(), repr=False)

    @property
    def whole_rate(self) -> float:
        """Hours of audio per hour of the whole process."""
        return self.audio_seconds / self.whole_seconds

    @property
    def run_rate(self) -> float:
        """Hours of audio per hour without the start."""
        return self.audio_seconds / self.run_seconds

    @property
    def padding(self) -> float:
        """Share of what the model computed that was no audio."""
        return 1 - self.numbers["audio_seconds"] / self.numbers["padded_seconds"]

    def share(self, name: str) -> float | None:
        """Share of `run_seconds` of a field of seconds of `Meter`; None for `LIMIT`."""
        seconds = self.numbers.get(name)
        return None if seconds is None else seconds / self.run_seconds / self.gpus


def measure(
    name: str, setting: Setting, items: int, gpus: int = 1, *, dask: bool = False
) -> Result:
    """Run one variant.

    Args:
        name: which.
        setting: what all have in common.
        items: utterances.
        gpus: workers.
        dask: let ours start workers, also if it is just one.

    Raises:
        MeasurementFailed: it failed, took too long, or is not possible.
    """
    out = setting.directory / f"{len(list(setting.directory.iterdir()))}"
    meters = out.with_name(f"{out.name}.meters")
    meters.mkdir()
    common = {"corpus": setting.corpus.directory, "items": items, "out": out}
    common["model"] = {**setting.model, "meter": str(meters)}
    function, arguments = _call(name, setting, gpus, dask)
    cpu_before = _cpu_of_children()
    with Watch(gpus if setting.on_gpu else 0) as watch:
        call = child(function, {**common, **arguments}, timeout=setting.timeout)
    cpu = _cpu_of_children() - cpu_before
    audio = sum(setting.corpus.durations(items))
    texts = out / TEXTS
    if name == LIMIT:
        numbers = dict(call.returned)
        run, whole = numbers["run_seconds"], call.seconds - numbers["preparing_seconds"]
        return Result(name, 1, whole, run, audio, cpu, None, numbers, texts)
    rows = Meter.read(meters)
    begin, end = min(row["begin"] for row in rows), max(row["end"] for row in rows)
    numbers = {key: sum(row[key] for row in rows) for key in Meter.FIELDS}
    numbers["peak_bytes"] = max(row["peak_bytes"] for row in rows)
    if round(numbers["items"]) != items:
        raise MeasurementFailed(f"{name}: did {numbers['items']:.0f} of {items} utterances")
    busy = watch.share(begin, end)
    return Result(name, gpus, call.seconds, end - begin, audio, cpu, busy, numbers, texts)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _call(name: str, setting: Setting, gpus: int, dask: bool) -> tuple[str, dict[str, Any]]:
    device = "cuda" if setting.on_gpu else "cpu"
    if name == PEER:
        arguments = {"device": device, "batch_size": setting.batch_size, "workers": gpus}
        return "benchmarks.gpu_peer:again", arguments
    if name == PACKAGE:
        arguments = {"device": device, "batch_size": setting.batch_size}
        return "benchmarks.gpu_peer:package", {**arguments, "path": setting.package}
    if name == LIMIT:
        return "benchmarks.gpu_run:limit", {
            "device": device,
            "batch_seconds": setting.batch_seconds,
        }
    by_length = "batch_seconds" in _RUN[name]
    run = _RUN[name] | ({"batch_seconds": setting.batch_seconds} if by_length else {})
    try:
        parse_parallel(None, run)
    except ConfigError as error:
        raise MeasurementFailed(f"{name}: {error}") from None
    return "benchmarks.gpu_run:ours", {
        "device": None if setting.on_gpu else "cpu",
        "parallel": {"env": "local_gpu" if dask and setting.on_gpu else "local", "n_workers": gpus},
        "run": run,
        "batch_size": _MOST_ITEMS if by_length else setting.batch_size,
        "lengths_known": by_length,
    }
