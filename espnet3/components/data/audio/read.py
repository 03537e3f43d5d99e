"""Reading audio of any format, whole or a stretch of it, by soundfile or else by PyAV.

soundfile (libsndfile) reads WAV, FLAC, Ogg, Opus, MP3, SPHERE, AIFF and more, and seeks, so that a
stretch costs no more than itself. PyAV (FFmpeg) reads nearly everything else, M4A and G.722 among
them; there a stretch is decoded from the beginning of the file, since only that is exact to the
sample in every format.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from espnet3.components.data.audio.decoders import (
    Name,
    Samples,
    existing,
    open_av,
    open_soundfile,
    read_av,
    read_soundfile,
    scaled,
)
from espnet3.errors import DataError
from espnet3.utils.extras import import_extra

Channel = int | Literal["mean"] | None

OVERSHOOT = 0.5
"""Seconds by which a segment may end after its recording; it is cut there, as Kaldi does."""


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


def audio_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header of an audio file alone.

    Raises:
        DataError: There is no such file, or it is no audio that can be read; the message says why.
        ConfigError: PyAV is needed and not installed.
    """
    file = existing(path)
    opened = open_soundfile(file)
    if opened is not None:
        with opened as audio:
            rate = int(audio.samplerate)
            return AudioInfo(rate, int(audio.channels), audio.frames / rate, str(audio.format))
    with open_av(file) as container:
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
    file = existing(path)
    first = _begin(file, start, end)
    opened = open_soundfile(file)
    if opened is not None:
        with opened as audio:
            samples, rate = read_soundfile(file, audio, first, end), int(audio.samplerate)
    else:
        samples, rate = read_av(file, first, end)
    return _finished(file, samples, rate, (first, end), channel, sample_rate)


def audio_of_bytes(
    data: bytes,
    name: str,
    start: float | None = None,
    end: float | None = None,
    channel: Channel = None,
    sample_rate: int | None = None,
) -> tuple[Samples, int]:
    """Do as `read_audio` with the content of a file that soundfile knows.

    Args:
        data: The content.
        name: For messages; the others are those of `read_audio`.
    """
    import soundfile

    first = _begin(name, start, end)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as audio:
            samples, rate = read_soundfile(name, audio, first, end), int(audio.samplerate)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{name}: no audio that soundfile reads: {error.error_string}") from error
    return _finished(name, samples, rate, (first, end), channel, sample_rate)


def audio_of_samples(
    samples: np.ndarray[Any, Any],
    rate: int,
    name: str,
    start: float | None = None,
    end: float | None = None,
    channel: Channel = None,
    sample_rate: int | None = None,
) -> tuple[Samples, int]:
    """Do as `read_audio` with what was read already.

    Args:
        samples: Integers, or floats with full scale at 1.0, of shape (samples,) or (samples,
            channels).
        rate: Samples per second.
        name: For messages; the others are those of `read_audio`.
    """
    first = _begin(name, start, end)
    cut = samples[round(first * rate) : None if end is None else round(end * rate)]
    whole = cut.reshape(len(cut), -1)
    return _finished(name, scaled(whole), rate, (first, end), channel, sample_rate)


def resample(samples: Samples, rate: int, new_rate: int) -> Samples:
    """Resample float32 of shape (samples,) by soxr in its quality "HQ"; always the same result.

    Raises:
        ConfigError: soxr is not installed.
    """
    soxr = import_extra("soxr", f"resampling from {rate} to {new_rate} Hz")
    made: Samples = soxr.resample(samples, rate, new_rate, quality="HQ")
    return made


def _begin(name: Name, start: float | None, end: float | None) -> float:
    """Where a stretch begins, in seconds; that there can be such a stretch is checked."""
    first = 0.0 if start is None else start
    if not 0 <= first < (np.inf if end is None else end) or end == np.inf:
        raise DataError(f"{name}: no segment goes from {start} to {end} seconds")
    return first


def _finished(
    name: Name,
    samples: Samples,
    rate: int,
    stretch: tuple[float, float | None],
    channel: Channel,
    sample_rate: int | None,
) -> tuple[Samples, int]:
    """Check what was read of a stretch, and give one channel of it at the rate that is wanted."""
    _check_length(name, len(samples), rate, *stretch)
    one = _one_channel(name, samples, channel)
    if not np.isfinite(one).all():
        at = int(np.argmin(np.isfinite(one)))
        position = at + round(stretch[0] * rate)
        raise DataError(f"{name}: sample {position} is {one[at]}, not a number")
    if sample_rate is None or sample_rate == rate:
        return one, rate
    return resample(one, rate, sample_rate), sample_rate


def _check_length(name: Name, n_samples: int, rate: int, start: float, end: float | None) -> None:
    if not n_samples:
        if start:
            raise DataError(f"{name}: ends before the segment begins, at {start:g} s")
        raise DataError(f"{name}: holds no samples")
    if end is not None and n_samples < (end - start - OVERSHOOT) * rate:
        raise DataError(
            f"{name}: ends at {start + n_samples / rate:g} s, and the segment at {end:g} s; up to "
            f"{OVERSHOOT} s would be cut off"
        )


def _one_channel(name: Name, samples: Samples, channel: Channel) -> Samples:
    n_channels = samples.shape[1]
    if channel == "mean":
        averaged: Samples = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
        return averaged
    if channel is None:
        if n_channels > 1:
            raise DataError(
                f"{name}: has {n_channels} channels; choose one with channel: 0 to "
                f"{n_channels - 1}, or `mean`"
            )
        channel = 0
    if not isinstance(channel, int) or not 0 <= channel < n_channels:
        raise DataError(f"{name}: has {n_channels} channels (from 0), and none is {channel!r}")
    return np.ascontiguousarray(samples[:, channel])
