"""Each stage on items that note when they are begun, and the same by a script, for `killed`.

A root holds ``log/``, where items note themselves, ``sources/``, and ``out/``.
"""

import io
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks import tasks
from espnet3.components.data import extract as extracting
from espnet3.components.data import format_audio as formatting
from espnet3.parallel.parallel import parallel_session

SECONDS = 0.03
"""That an utterance takes in `collect_stats` and `infer`, whose computing is nothing here."""


def note(log: str | Path, number: int) -> None:
    """Note that an item is begun."""
    with open(Path(log) / str(os.getpid()), "a", encoding="ascii") as file:
        file.write(f"{number}\n")


_extract_one = extracting.ExtractRunner.forward
_format_one = formatting.FormatAudioRunner.forward


class NotedExtract(extracting.ExtractRunner):
    """Notes archives that are begun."""

    @staticmethod
    def forward(idx: str, unpacked: extracting.UnpackedArchives) -> str:
        """Unpack one archive."""
        note(unpacked.out_dir.parent / "log", int(idx))
        return _extract_one(idx, unpacked)


class NotedFormat(formatting.FormatAudioRunner):
    """Notes utterances that are begun."""

    @staticmethod
    def forward(idx: Any, out_dir: Path, how: Any) -> dict[str, Any]:
        """Format one utterance."""
        note(out_dir.parent / "log", int(idx[0]))
        return _format_one(idx, out_dir, how)


class Dataset:
    """`n` utterances of noise, (100, 80) in float32, which begin with the utterance's number."""

    def __init__(self, n: int, log: str) -> None:
        self._n, self._log = n, log

    def __len__(self) -> int:
        return self._n

    def utt_id(self, i: int) -> str:
        """Its number among all."""
        return f"{i:04d}"

    def __getitem__(self, i: int) -> dict[str, Any]:
        speech = np.random.default_rng(i).normal(size=(100, 80)).astype(np.float32)
        speech[0, 0] = i
        return {"utt_id": self.utt_id(i), "speech": speech, "log": self._log}


def features(item: dict[str, Any]) -> dict[str, Any]:
    """An item's speech, noted and after a while."""
    note(item["log"], int(item["speech"][0, 0]))
    time.sleep(SECONDS)
    return {"feats": item["speech"]}


class Model:
    """Tells which utterance it hears, after a while."""

    def __call__(self, speech: Any, log: str) -> dict[str, str]:
        note(log, int(speech[0, 0]))
        time.sleep(SECONDS)
        return {"hyp": f"ELEVEN {int(speech[0, 0])}"}


def _download(root: Path, n: int, urls: list[str]) -> None:
    from espnet3.components.data.download import download

    download([{"url": url, "path": str(i)} for i, url in enumerate(urls)], root / "out")


def _extract(root: Path, n: int) -> None:
    extracting.ExtractRunner = NotedExtract  # type: ignore[misc]
    extracting.extract([root / f"sources/{i}.tar.gz" for i in range(n)], root / "out")


def _format_audio(root: Path, n: int) -> None:
    formatting.FormatAudioRunner = NotedFormat  # type: ignore[misc]
    formatting.format_audio(
        [(f"{i:04d}", root / f"sources/{i}.flac") for i in range(n)], root / "out"
    )


def _entries(root: Path, n: int) -> list[dict[str, Any]]:
    arguments = {"n": n, "log": str(root / "log")}
    return [{"name": "test", "data_src": "benchmarks.stages", "data_src_args": arguments}]


def _collect_stats(root: Path, n: int) -> None:
    from espnet3.components.data.collect_stats import collect_stats

    how = {"collect_feats": "benchmarks.stages.features"}
    config = {"dataset": {"train": _entries(root, n)}, "collect_stats": how}
    collect_stats(config, "train", root / "out")


def _infer(root: Path, n: int) -> None:
    from omegaconf import OmegaConf

    from espnet3.systems.base.inference import infer

    base = "espnet3.systems.base"
    config = {
        "inference_dir": str(root / "out"),
        "dataset": {"test": _entries(root, n)},
        "model": {"_target_": "benchmarks.stages.Model"},
        "input_key": ["speech", "log"],
        "output_keys": ["hyp"],
        "provider": {"_target_": f"{base}.inference_provider.InferenceProvider"},
        "runner": {"_target_": f"{base}.inference_runner.InferenceRunner"},
    }
    infer(OmegaConf.create(config))


def _get(root: Path, i: int, out: Path, urls: list[str]) -> None:
    tasks.fetch(i, urls, str(out.parent))


def _unpack(root: Path, i: int, out: Path) -> None:
    tasks.unpack(i, str(root / "sources"), str(out.parent))


def _convert(root: Path, i: int, out: Path) -> None:
    import soxr

    samples, rate = soundfile.read(root / f"sources/{i}.flac", dtype="float32")
    samples = soxr.resample(samples, rate, 16000)
    soundfile.write(out, samples, 16000, subtype="PCM_16", format="FLAC")


def _sums(root: Path, i: int, out: Path) -> None:
    feats = features(Dataset(i + 1, str(root / "log"))[i])["feats"].astype(np.float64)
    with out.open("wb") as file:
        np.savez(file, count=len(feats), sum=feats.sum(0), sum_square=np.square(feats).sum(0))


def _decode(root: Path, i: int, out: Path) -> None:
    item = Dataset(i + 1, str(root / "log"))[i]
    said = Model()(item["speech"], item["log"])["hyp"]
    out.write_text(f"{i:04d} {said}\n", encoding="utf-8")


class Stage:
    """One stage: by espnet3, and for one item by a script.

    Args:
        n: items.
        ours: does them all below a root.
        script: does one, and writes it to where the script's user wants it.
        results: what of the stage's ``out/`` must not depend on interruptions.
        notes: whether `script` notes the item itself (or the server does).
    """

    def __init__(
        self, n: int, ours: Callable[..., None], script: Callable[..., None], results: str,
        *, notes: bool = True,
    ) -> None:  # fmt: skip
        self.n, self.ours, self.script, self.results, self.notes = n, ours, script, results, notes


STAGES: dict[str, Stage] = {
    "download": Stage(16, _download, _get, "[0-9]*"),
    "extract": Stage(20, _extract, _unpack, "[0-9]*/**/*", notes=False),
    "format_audio": Stage(60, _format_audio, _convert, "audio/*", notes=False),
    "collect_stats": Stage(100, _collect_stats, _sums, "train/*_s[ht]a*"),
    "infer": Stage(100, _infer, _decode, "test/hyp*"),
}


def run(stage: str, root: str, workers: int, **given: Any) -> None:
    """Runs in a measured process: a stage by espnet3."""
    with parallel_session({"env": "local", "n_workers": workers}):
        STAGES[stage].ours(Path(root), STAGES[stage].n, **given)


def by_script(stage: str, root: str, workers: int, skip: bool, **given: Any) -> None:
    """Runs in a measured process: a stage by joblib; with `skip`, not what has an output."""
    from joblib import Parallel, delayed

    items = range(STAGES[stage].n)
    Parallel(n_jobs=workers)(delayed(_one)(stage, root, i, skip, given) for i in items)


def _one(stage: str, root: str, i: int, skip: bool, given: dict[str, Any]) -> None:
    out = Path(root) / "out" / str(i)
    if skip and out.exists():
        return
    if not STAGES[stage].notes:
        note(Path(root) / "log", i)
    STAGES[stage].script(Path(root), i, out, **given)


def make_sources(stage: str, out: str) -> None:
    """Runs in a measured process: write the archives or recordings that a stage needs."""
    n = STAGES[stage].n
    if stage == "extract":
        write_archives(out, n, members=100, size=40_000)
    elif stage == "format_audio":
        random = np.random.default_rng(0)
        for i in range(n):
            soundfile.write(f"{out}/{i}.flac", 0.1 * random.normal(size=44100 * 10), 44100)


def write_archives(out: str, n: int, members: int, size: int) -> None:
    """Runs in a measured process: write ``<i>.tar.gz`` with files of `size` bytes, noise."""
    random = np.random.default_rng(0)
    for i in range(n):
        with tarfile.open(f"{out}/{i}.tar.gz", "w:gz", compresslevel=1) as archive:
            for k in range(members):
                info = tarfile.TarInfo(f"wav/{k:03d}")
                info.size = size
                archive.addfile(info, io.BytesIO(random.bytes(size)))
