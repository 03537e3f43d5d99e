"""The recordings of the GPU benchmark: lengths as corpora have them, FLAC files made from a seed.

NumPy and soundfile alone, so that it runs beside whatever is measured.
"""

import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16000
MOST_FILES = 2000
"""Distinct recordings that are written. A longer corpus has them again, under other ids: the page
cache holds them either way, so reading is decoding and no disk."""

_CORPUS = "corpus.json"
_POOL_SECONDS = 60.0


@dataclass(frozen=True)
class Corpus:
    """Recordings on disk.

    Attributes:
        directory: where the files are.
        seconds: of every distinct file.
        items: utterances; utterance i is file ``i % len(seconds)``.
    """

    directory: Path
    seconds: list[float]
    items: int

    def durations(self, items: int | None = None) -> list[float]:
        """Seconds of every utterance, or of the first `items`, which may be more than there are."""
        whole, rest = divmod(self.items if items is None else items, len(self.seconds))
        return self.seconds * whole + self.seconds[:rest]


class Recordings:
    """The corpus as a data set, as a recipe would write one: decodes a file for each item.

    Args:
        directory: of a corpus that `make` has made.
        items: how many, which may be more than it has; None for those that it has.
    """

    thread_safe = True
    """Every item opens a file of its own."""

    def __init__(self, directory: str | Path, items: int | None = None) -> None:
        corpus = read(directory)
        self._directory, self._n_files = corpus.directory, len(corpus.seconds)
        self._items = corpus.items if items is None else items

    def __len__(self) -> int:
        return self._items

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """``utt_id`` and ``speech``, float32 of shape (samples,)."""
        path = _path(self._directory, int(idx) % self._n_files)
        speech, _ = soundfile.read(path, dtype="float32")
        return {"utt_id": self.utt_id(idx), "speech": speech}

    def utt_id(self, idx: int) -> str:
        """The id, without reading audio."""
        return f"utt{int(idx):07d}"


def make(lengths: str, hours: float, directory: Path, seed: int = 0) -> Corpus:
    """Write a corpus of at least so many hours.

    Args:
        lengths: a key of `LENGTHS`.
        hours: of all its utterances.
        directory: for the files; made if it is not there.
        seed: of lengths and sounds.
    """
    seconds = LENGTHS[lengths](np.random.default_rng(seed))
    if sum(seconds) > hours * 3600:
        n_needed = int(np.searchsorted(np.cumsum(seconds), hours * 3600)) + 1
        seconds = seconds[:n_needed]
    samples = [round(s * RATE) for s in seconds]
    directory.mkdir(parents=True, exist_ok=True)
    # Not spawned: each process would import NumPy anew, and no thread is up yet.
    with multiprocessing.get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
        jobs = list(enumerate(samples))
        for _ in pool.imap_unordered(partial(_write, directory, seed), jobs, chunksize=8):
            pass
    exact = [n / RATE for n in samples]
    passes, rest = divmod(hours * 3600, sum(exact))
    items = int(passes) * len(exact) + int(np.searchsorted(np.cumsum(exact), rest))
    corpus = Corpus(directory, exact, max(items, len(exact)))
    data = {"seconds": exact, "items": corpus.items}
    (directory / _CORPUS).write_text(json.dumps(data), encoding="utf-8")
    return corpus


def read(directory: str | Path) -> Corpus:
    """A corpus that `make` has made."""
    data = json.loads((Path(directory) / _CORPUS).read_text(encoding="utf-8"))
    return Corpus(Path(directory), data["seconds"], data["items"])


def megabytes(corpus: Corpus) -> float:
    """Size of its files."""
    return sum(_path(corpus.directory, i).stat().st_size for i in range(len(corpus.seconds))) / 1e6


def _librispeech(rng: np.random.Generator) -> list[float]:
    """As the training sets of LibriSpeech: mean 12.3 s, most at 14 to 16 s, a few up to 35 s."""
    short = rng.triangular(1.5, 10.5, 13.5, MOST_FILES)
    peak = rng.normal(15.0, 0.8, MOST_FILES)
    long = 16.5 + rng.exponential(4.0, MOST_FILES)
    kind = rng.choice(3, MOST_FILES, p=[0.42, 0.54, 0.04])
    return list(np.clip(np.choose(kind, [short, peak, long]), 1.3, 35.0))


def _librispeech_test(rng: np.random.Generator) -> list[float]:
    """As its test sets: log-normal, median 5.8 s, mean 7.4 s, 1.3 to 35 s."""
    seconds = 5.8 * np.exp(0.7 * rng.standard_normal(3 * MOST_FILES))
    return list(seconds[(seconds >= 1.3) & (seconds <= 35.0)][:MOST_FILES])


def _prompts(rng: np.random.Generator) -> list[float]:
    """Those of egs3/asterisk_prompts, all five languages, in the order of their ids."""
    lines = (Path(__file__).parent / "gpu_prompts.txt").read_text(encoding="ascii").splitlines()
    return [float(word) for line in lines[1:] for word in line.split()]


LENGTHS: dict[str, Callable[[np.random.Generator], list[float]]] = {
    "librispeech": _librispeech,
    "librispeech_test": _librispeech_test,
    "prompts": _prompts,
}


def _path(directory: Path, number: int) -> Path:
    return directory / f"{number:05d}.flac"


def _write(directory: Path, seed: int, job: tuple[int, int]) -> None:
    number, samples = job
    rng = np.random.default_rng([seed, number])
    pool = _speech_like(seed)
    begin = int(rng.integers(len(pool) - samples))
    speech = pool[begin : begin + samples] * rng.uniform(0.3, 1.0)
    soundfile.write(_path(directory, number), speech, RATE, subtype="PCM_16")


_pool: dict[int, np.ndarray[Any, Any]] = {}


def _speech_like(seed: int) -> np.ndarray[Any, Any]:
    """A minute of voiced sounds with noise, in syllables: for the decoder as much work as speech.

    It has no words. Float in [-1, 1], shape (samples,).
    """
    if seed not in _pool:
        rng = np.random.default_rng(seed)
        n = int(_POOL_SECONDS * RATE)
        t = np.arange(n) / RATE
        pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * t) + 10 * np.sin(2 * np.pi * 2.3 * t)
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        voice = sum(np.sin(k * phase) / k for k in range(1, 20))
        spectrum = np.fft.rfft(rng.standard_normal(n))
        noise = np.fft.irfft(spectrum / (1 + np.fft.rfftfreq(n, 1 / RATE) / 500), n)
        syllables = np.clip(np.sin(2 * np.pi * 4 * t + 2 * np.sin(2 * np.pi * 0.3 * t)), 0.02, 1)
        speech = syllables * voice + 0.05 * noise / noise.std()
        _pool[seed] = 0.7 * speech / np.abs(speech).max()
    return _pool[seed]
