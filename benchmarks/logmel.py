"""Recordings on disk and log-mel features of them in NumPy, for the benchmark `statistics`."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16000
FRAME, SHIFT, N_FFT, N_MELS = 400, 160, 512, 80


class Dataset:
    """Every ``.wav`` file of a directory, each `times` times."""

    def __init__(self, directory: str, times: int = 1) -> None:
        files = sorted(Path(directory).glob("*.wav"))
        self._files = files * times
        self._seconds = [soundfile.info(file).duration for file in files] * times

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: int) -> dict[str, Any]:
        speech, _ = soundfile.read(self._files[i], dtype="float32")
        return {"utt_id": self.utt_id(i), "speech": speech}

    def utt_id(self, i: int) -> str:
        """Its number among all."""
        return f"utt{i:06d}"

    def durations(self) -> list[float]:
        """Seconds of each."""
        return self._seconds


def make(directory: Path, n_files: int) -> float:
    """Write recordings of noise, log-normal lengths around 8 s; returns how many seconds."""
    random = np.random.default_rng(0)
    seconds = 0.0
    for i in range(n_files):
        samples = random.normal(scale=0.1, size=int(RATE * min(random.lognormal(2.0, 0.6), 40)))
        soundfile.write(directory / f"{i:06d}.wav", samples, RATE)
        seconds += len(samples) / RATE
    return seconds


def logmel(item: dict[str, Any]) -> dict[str, Any]:
    """Log-mel energies, (frames, 80) in float32, of 25 ms every 10 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(item["speech"], FRAME)[::SHIFT]
    power = np.abs(np.fft.rfft(frames * _WINDOW, N_FFT)) ** 2
    return {"feats": np.log(power @ _MEL + 1e-10).astype(np.float32)}


def _mel_weights() -> np.ndarray[Any, Any]:
    edges = 700 * (10 ** (np.linspace(0, 2840, N_MELS + 2) / 2595) - 1)  # 0 to 8 kHz
    hertz = np.linspace(0, RATE / 2, N_FFT // 2 + 1)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    weights: np.ndarray[Any, Any] = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return weights


_WINDOW = np.hanning(FRAME).astype(np.float32)
_MEL = _mel_weights()
