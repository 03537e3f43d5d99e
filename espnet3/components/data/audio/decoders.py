"""Decoding audio files: what libsndfile reads by soundfile, nearly everything else by PyAV."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from espnet3.errors import DataError
from espnet3.utils.extras import import_extra

Samples = np.ndarray[Any, np.dtype[np.float32]]
Name = str | os.PathLike[str]

_RAW_FORMATS = {".g722": "g722"}
"""FFmpeg's names of formats without a header, which nothing but the suffix tells."""

_NO_HEADER = (".raw", ".pcm", ".sln", ".sln16", ".ulaw", ".alaw", ".gsm")


def existing(path: str | os.PathLike[str]) -> Path:
    """Check that a file is there and not empty.

    Raises:
        DataError: It is not.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    if file.is_file() and size == 0:
        raise DataError(f"{file}: is empty (0 bytes)")
    return file


def open_soundfile(file: Path) -> Any:
    """Open by soundfile; `None` if the format is not one of its own."""
    import soundfile

    suffix = file.suffix.lower()
    if suffix in _NO_HEADER:
        raise DataError(
            f"{file}: {suffix} has no header, so nothing tells its sample rate; convert it first"
        )
    if suffix in _RAW_FORMATS:
        return None
    try:
        return soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        if not os.access(file, os.R_OK) or not file.is_file():
            raise DataError(f"{file}: cannot be read: {error}") from error
        return None


def read_soundfile(name: Name, audio: Any, start: float, end: float | None) -> Samples:
    """Return (samples, channels); less than asked for if the file ends before."""
    import soundfile

    rate, frames = audio.samplerate, audio.frames
    first = min(round(start * rate), frames)
    stop = frames if end is None else min(round(end * rate), frames)
    try:
        if first:
            audio.seek(first)
        samples: Samples = audio.read(stop - first, dtype="float32", always_2d=True)
    except soundfile.SoundFileRuntimeError as error:
        raise DataError(f"{name}: damaged or cut short: {error}") from error
    if len(samples) < stop - first:
        raise DataError(
            f"{name}: cut short: {frames} samples are announced, and it ends after "
            f"{first + len(samples)}"
        )
    return samples


def open_av(file: Path) -> Any:
    """Open by PyAV.

    Raises:
        DataError: It knows no such format, or there is no audio in it.
        ConfigError: It is not installed.
    """
    av = import_extra("av", f"{file}: soundfile does not know this format, and other formats")
    try:
        container = av.open(str(file), format=_RAW_FORMATS.get(file.suffix.lower()))
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"{file}: no audio format that soundfile or PyAV knows") from error
    if not container.streams.audio:
        kinds = ", ".join(stream.type for stream in container.streams) or "none"
        container.close()
        raise DataError(f"{file}: has no audio stream (streams: {kinds})")
    return container


def read_av(file: Path, start: float, end: float | None) -> tuple[Samples, int]:
    """Decode from the beginning and keep the stretch: (samples, channels)."""
    with open_av(file) as container:
        av, stream = import_module("av"), container.streams.audio[0]
        kept: list[Samples] = []
        position = 0
        rate, first, stop = 0, 0, None
        try:
            for frame in container.decode(stream):
                if not rate:
                    rate = int(frame.sample_rate)
                    first, stop = round(start * rate), None if end is None else round(end * rate)
                if frame.sample_rate != rate:
                    raise DataError(f"{file}: its sample rate changes at {position / rate:g} s")
                after = position + frame.samples
                if after > first:
                    cut = _as_float(frame)[max(0, first - position) :]
                    kept.append(cut if stop is None or after <= stop else cut[: stop - after])
                position = after
                if stop is not None and position >= stop:
                    break
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{file}: damaged after {position} samples: {error}") from error
    if not rate:
        raise DataError(f"{file}: its audio stream holds nothing")
    return (np.concatenate(kept) if kept else np.zeros((0, 1), np.float32)), rate


def _as_float(frame: Any) -> Samples:
    """Return a decoded frame as (samples, channels), with full scale at 1.0."""
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(frame.samples, -1)
    return scaled(array)


def scaled(array: np.ndarray[Any, Any]) -> Samples:
    """Return integer samples with full scale at 1.0, floats as they are."""
    if array.dtype.kind == "f":
        return np.asarray(array, np.float32)
    if array.dtype == np.uint8:
        return np.asarray((array.astype(np.float32) - 128) / 128, np.float32)
    full_scale = -float(np.iinfo(array.dtype).min)
    return np.asarray(array / full_scale, np.float32)
