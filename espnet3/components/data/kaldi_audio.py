"""What a value of ``wav.scp`` or ``feats.scp`` stands for: a file, a place in an ark, a pipe."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from espnet3.components.data.kaldi_checks import is_pipe
from espnet3.errors import DataError
from espnet3.utils.ark import import_kaldiio

_IN_ARK = re.compile(r"(?P<ark>.+):(?P<offset>\d+)(?:\[[\d:,]*\])?")
_OVERSHOOT = 0.5  # seconds; Kaldi's extract-segments takes as much
Array = np.ndarray[Any, np.dtype[np.float32]]


def read_audio_value(
    value: str, start: float = 0.0, end: float | None = None, channel: int | None = None
) -> tuple[Array, int]:
    """Read the audio that a value of ``wav.scp`` stands for, or one stretch of it.

    Of a file no more is read than the stretch. That a pipe may be run is for the caller to know.

    Args:
        value: A file, ``file.ark:1234``, or ``command |``.
        start: Seconds.
        end: Seconds, not included; `None` for the end of the recording.
        channel: From 0; needed where there are several.

    Returns:
        float32 of shape (samples,) with full scale at 1.0, and samples per second.

    Raises:
        DataError: There are several channels, the recording ends before the stretch begins or
            more than half a second (as in Kaldi) before it ends, a command has failed, or an ark
            holds something other than audio there.
    """
    if is_pipe(value):
        samples, rate = _read_file(io.BytesIO(_output_of(value)), start, end)
    elif _IN_ARK.fullmatch(value) and not Path(value).exists():
        samples, rate = _from_ark(value)
        samples = samples[round(start * rate) : None if end is None else round(end * rate)]
    else:
        samples, rate = _read_file(value, start, end)
    if samples.ndim == 2:
        samples = _one_channel(samples, channel, value)
    elif channel:
        raise DataError(f"{value}: has one channel, so there is no channel {channel}")
    if end is not None and len(samples) < (end - start - _OVERSHOOT) * rate:
        had = f"{start + len(samples) / rate:g} s" if len(samples) else f"{start:g} s or before"
        raise DataError(f"{value}: ends at {had}, but the segment at {end:g} s")
    if start > 0 and not len(samples):
        raise DataError(f"{value}: ends before the segment begins, at {start:g} s")
    return samples, rate


def read_matrix_value(value: str) -> Array:
    """Read the features that a value of ``feats.scp`` stands for: float32 (frames, dimensions)."""
    array = _load(value)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{value}: is audio, not features")
    return array.astype(np.float32, copy=False)


def sample_rate_of(value: str) -> int:
    """Return the samples per second of a recording, from its header where it is a file."""
    import soundfile

    if _IN_ARK.fullmatch(value) and not Path(value).exists():
        return _from_ark(value)[1]
    return int(soundfile.info(value).samplerate)


def _read_file(file: Any, start: float, end: float | None) -> tuple[Array, int]:
    import soundfile

    with soundfile.SoundFile(file) as audio:
        rate = int(audio.samplerate)
        first = min(round(start * rate), audio.frames)
        n_frames = -1 if end is None else max(0, round(end * rate) - first)
        if first:
            audio.seek(first)
        return audio.read(n_frames, dtype="float32"), rate


def _output_of(value: str) -> bytes:
    command = value.strip().rstrip("|")
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise DataError(f"`{command.strip()}` ended with status {done.returncode}: {said}")
    return done.stdout


def _from_ark(value: str) -> tuple[Array, int]:
    loaded = _load(value)
    if not isinstance(loaded, tuple):
        raise DataError(f"{value}: is an array, not audio")
    rate, samples = loaded
    if samples.dtype.kind in "iu":
        zero = 128 if samples.dtype == np.uint8 else 0
        full = 128 if samples.dtype == np.uint8 else -float(np.iinfo(samples.dtype).min)
        samples = (samples.astype(np.float64) - zero) / full
    return samples.astype(np.float32), int(rate)


def _load(value: str) -> Any:
    """Let kaldiio read a value that is no pipe."""
    kaldiio = import_kaldiio()
    if not is_pipe(value):
        found = _IN_ARK.fullmatch(value)
        with open(found["ark"] if found else value, "rb") as ark:
            ark.seek(int(found["offset"]) if found else 0)
            if ark.read(3) == b"PKL":  # kaldiio would run whatever it holds
                raise DataError(f"{value}: is a Python pickle, which is not read from an ark")
        return kaldiio.load_mat(value)
    return kaldiio.matio.read_kaldi(_unpickled(io.BytesIO(_output_of(value)), value))


def _unpickled(data: io.BytesIO, value: str) -> io.BytesIO:
    if data.getvalue()[:3] == b"PKL":
        raise DataError(f"{value}: is a Python pickle, which is not read")
    return data


def _one_channel(samples: Array, channel: int | None, value: str) -> Array:
    n_channels = samples.shape[1]
    if channel is None or not 0 <= channel < n_channels:
        raise DataError(
            f"{value}: has {n_channels} channels; choose one with channel: 0 to {n_channels - 1}"
        )
    return np.ascontiguousarray(samples[:, channel])
