"""Reading audio of any format, whole or a stretch of it, by soundfile or else by PyAV.

soundfile (libsndfile) reads WAV, FLAC, Ogg, Opus, MP3, SPHERE, AIFF and more, and seeks, so that a
stretch costs no more than itself. PyAV (FFmpeg) reads nearly everything else, M4A and G.722 among
them; there a stretch is decoded from the beginning of the file, since only that is exact to the
sample in every format.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from espnet3.errors import ConfigError, DataError

Samples = np.ndarray[Any, np.dtype[np.float32]]
Channel = int | Literal["mean"] | None

OVERSHOOT = 0.5
"""Seconds by which a segment may end after its recording; it is cut there, as Kaldi does."""

_RAW_FORMATS = {".g722": "g722"}
"""FFmpeg's names of formats without a header, which nothing but the suffix tells."""

_NO_HEADER = (".raw", ".pcm", ".sln", ".sln16", ".ulaw", ".alaw", ".gsm")


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes:
        sample_rate: Hz.
        channels: How many.
        seconds: Of the whole file; `None` where the header does not tell.
        format: Such as ``WAV``, ``FLAC``, ``mov,mp4,m4a``.
    """

    sample_rate: int
    channels: int
    seconds: float | None
    format: str


def import_extra(name: str, purpose: str) -> Any:
    """Import a package of the extra ``data``.

    Args:
        name: Of the module.
        purpose: What needs it, to begin the message with.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"{purpose} needs {name}: pip install 'espnet3[data]'") from error


def audio_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header of an audio file alone.

    Raises:
        DataError: There is no such file, or it is no audio that can be read; the message says why.
        ConfigError: PyAV is needed and not installed.
    """
    file = _existing(path)
    opened = _open_soundfile(file)
    if opened is not None:
        with opened as audio:
            rate = int(audio.samplerate)
            return AudioInfo(rate, int(audio.channels), audio.frames / rate, str(audio.format))
    with _open_av(file) as container:
        stream = container.streams.audio[0]
        seconds = None
        if stream.duration:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration:
            seconds = container.duration / 1e6  # FFmpeg's AV_TIME_BASE
        return AudioInfo(int(stream.rate), int(stream.channels), seconds, container.format.name)


def read_audio(
    path: str | os.PathLike[str],
    start: float | None = None,
    end: float | None = None,
    channel: Channel = None,
    sample_rate: int | None = None,
) -> tuple[Samples, int]:
    """Read one channel of an audio file, or of a stretch of it.

    Args:
        path: The file.
        start: Where the stretch begins, in seconds; `None` for the beginning.
        end: Where it ends, in seconds; `None` for the end.
        channel: From 0, or ``"mean"`` of all; `None` refuses files with several channels.
        sample_rate: Hz, to resample to (soxr, "HQ"); `None` keeps that of the file.

    Returns:
        float32 of shape (samples,) with full scale at 1.0, and samples per second. 16-bit samples
        are exact: times 32768 they are the integers of the file.

    Raises:
        DataError: There is no such file, it is no audio that can be read, it is damaged or ends
            early, the stretch is not in it, it has no such channel, or samples are no numbers.
        ConfigError: PyAV or soxr is needed and not installed.
    """
    file = _existing(path)
    first = 0.0 if start is None else start
    if not 0 <= first < (np.inf if end is None else end):
        raise DataError(f"{file}: no segment goes from {start} to {end} seconds")
    opened = _open_soundfile(file)
    if opened is not None:
        with opened as audio:
            samples, rate = _read_soundfile(file, audio, first, end), int(audio.samplerate)
    else:
        samples, rate = _read_av(file, first, end)
    _check_length(file, len(samples), rate, first, end)
    one = _one_channel(file, samples, channel)
    if not np.isfinite(one).all():
        at = int(np.argmin(np.isfinite(one)))
        raise DataError(f"{file}: sample {at + round(first * rate)} is {one[at]}, not a number")
    if sample_rate is None or sample_rate == rate:
        return one, rate
    return resample(one, rate, sample_rate), sample_rate


def resample(samples: Samples, rate: int, new_rate: int) -> Samples:
    """Resample float32 of shape (samples,) by soxr in its quality "HQ"; always the same result.

    Raises:
        ConfigError: soxr is not installed.
    """
    soxr = import_extra("soxr", f"resampling from {rate} to {new_rate} Hz")
    made: Samples = soxr.resample(samples, rate, new_rate, quality="HQ")
    return made


def _existing(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    try:
        size = file.stat().st_size
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    if file.is_file() and size == 0:
        raise DataError(f"{file}: is empty (0 bytes)")
    return file


def _open_soundfile(file: Path) -> Any:
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


def _read_soundfile(file: Path, audio: Any, start: float, end: float | None) -> Samples:
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
        raise DataError(f"{file}: damaged or cut short: {error}") from error
    if len(samples) < stop - first:
        raise DataError(
            f"{file}: cut short: {frames} samples are announced, and it ends after "
            f"{first + len(samples)}"
        )
    return samples


def _open_av(file: Path) -> Any:
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


def _read_av(file: Path, start: float, end: float | None) -> tuple[Samples, int]:
    """Decode from the beginning and keep the stretch: (samples, channels)."""
    with _open_av(file) as container:
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
    if array.dtype.kind == "f":
        return np.asarray(array, np.float32)
    if array.dtype == np.uint8:
        return np.asarray((array.astype(np.float32) - 128) / 128, np.float32)
    full_scale = -float(np.iinfo(array.dtype).min)
    return np.asarray(array / full_scale, np.float32)


def _check_length(file: Path, n_samples: int, rate: int, start: float, end: float | None) -> None:
    if not n_samples:
        if start:
            raise DataError(f"{file}: ends before the segment begins, at {start:g} s")
        raise DataError(f"{file}: holds no samples")
    if end is not None and n_samples < (end - start - OVERSHOOT) * rate:
        raise DataError(
            f"{file}: ends at {start + n_samples / rate:g} s, and the segment at {end:g} s; up to "
            f"{OVERSHOOT} s would be cut off"
        )


def _one_channel(file: Path, samples: Samples, channel: Channel) -> Samples:
    n_channels = samples.shape[1]
    if channel == "mean":
        averaged: Samples = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
        return averaged
    if channel is None:
        if n_channels > 1:
            raise DataError(
                f"{file}: has {n_channels} channels; choose one with channel: 0 to "
                f"{n_channels - 1}, or `mean`"
            )
        channel = 0
    if not isinstance(channel, int) or not 0 <= channel < n_channels:
        raise DataError(f"{file}: has {n_channels} channels (from 0), and none is {channel!r}")
    return np.ascontiguousarray(samples[:, channel])
