"""Log-mel filter bank features in NumPy, for statistics."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

N_FFT = 512
HOP = 160  # samples: 10 ms at 16 kHz
N_MELS = 80


def log_mel(item: Mapping[str, Any]) -> dict[str, Array]:
    """Features of one utterance.

    Args:
        item: With ``speech``, samples of shape (n,), and ``sample_rate``.

    Returns:
        ``{"feats": array}`` of shape (1 + n // 160, 80), float32: natural logarithm of mel-band
        energies, periodic Hann window of 512 samples, frames centred with zeros at both ends.
    """
    speech = np.asarray(item["speech"], dtype=np.float64)
    padded = np.pad(speech, N_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    window = np.sin(np.pi * np.arange(N_FFT) / N_FFT) ** 2
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    mel = power @ _filters(int(item["sample_rate"]))
    return {"feats": np.log(np.maximum(mel, 1e-10)).astype(np.float32)}


@cache
def _filters(rate: int) -> Array:
    """Triangles of shape (bins, mels), equally spaced on the mel scale of O'Shaughnessy (1987)."""

    def mel(hertz: Any) -> Any:
        return 2595.0 * np.log10(1.0 + hertz / 700.0)

    edges = np.linspace(0.0, mel(rate / 2), N_MELS + 2)
    bins = mel(np.arange(N_FFT // 2 + 1) * rate / N_FFT)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))
