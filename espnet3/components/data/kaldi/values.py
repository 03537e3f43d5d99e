"""What a value of ``wav.scp`` or ``feats.scp`` stands for: a file, a place in an ark, a pipe."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from espnet3.components.data.audio.read import (
    Channel,
    audio_info,
    audio_of_bytes,
    audio_of_samples,
    read_audio,
)
from espnet3.components.data.kaldi.checks import is_pipe
from espnet3.errors import DataError
from espnet3.utils.ark import import_kaldiio

_IN_ARK = re.compile(r"(?P<ark>.+):(?P<offset>\d+)(?:\[[\d:,]*\])?")
Array = np.ndarray[Any, np.dtype[np.float32]]


def read_audio_value(
    value: str,
    start: float | None = None,
    end: float | None = None,
    channel: Channel = None,
    sample_rate: int | None = None,
) -> tuple[Array, int]:
    """Do as `read_audio` with what a value of ``wav.scp`` stands for.

    That a pipe may be run is for the caller to know.

    Args:
        value: A file, ``file.ark:1234``, or ``command |``; the others are those of `read_audio`.

    Raises:
        DataError: As `read_audio`; also if a command has failed, or an ark holds something other
            than audio there.
        ConfigError: A package of the extra ``data`` is needed and not installed.
    """
    if is_pipe(value):
        return audio_of_bytes(_output_of(value), value, start, end, channel, sample_rate)
    if is_in_ark(value):
        samples, rate = _from_ark(value)
        return audio_of_samples(samples, rate, value, start, end, channel, sample_rate)
    return read_audio(value, start, end, channel, sample_rate)


def is_in_ark(value: str) -> bool:
    """Whether a value is a place in an ark, not a file."""
    return _IN_ARK.fullmatch(value) is not None and not Path(value).exists()


def read_matrix_value(value: str) -> Array:
    """Read the features that a value of ``feats.scp`` stands for: float32 (frames, dimensions)."""
    array = _load(value)
    if not isinstance(array, np.ndarray):
        raise DataError(f"{value}: is audio, not features")
    return array.astype(np.float32, copy=False)


def sample_rate_of(value: str) -> int:
    """Return the samples per second of a recording, from its header where it is a file."""
    return _from_ark(value)[1] if is_in_ark(value) else audio_info(value).sample_rate


def _output_of(value: str) -> bytes:
    command = value.strip().rstrip("|")
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise DataError(f"`{command.strip()}` ended with status {done.returncode}: {said}")
    return done.stdout


def _from_ark(value: str) -> tuple[np.ndarray[Any, Any], int]:
    loaded = _load(value)
    if not isinstance(loaded, tuple):
        raise DataError(f"{value}: is an array, not audio")
    rate, samples = loaded
    return samples, int(rate)


def _load(value: str) -> Any:
    """Let kaldiio read a value."""
    kaldiio = import_kaldiio()
    data = io.BytesIO(_output_of(value)) if is_pipe(value) else None
    try:
        if data is not None:
            return kaldiio.matio.read_kaldi(_unpickled(data, value))
        found = _IN_ARK.fullmatch(value)
        with open(found["ark"] if found else value, "rb") as ark:
            ark.seek(int(found["offset"]) if found else 0)
            if ark.read(3) == b"PKL":  # kaldiio would run whatever it holds
                raise DataError(f"{value}: is a Python pickle, which is not read from an ark")
        return kaldiio.load_mat(value)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{value}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # kaldiio checks by assertions and by much else
        raise DataError(f"{value}: no entry of an ark begins there, or it is damaged") from error


def _unpickled(data: io.BytesIO, value: str) -> io.BytesIO:
    if data.getvalue()[:3] == b"PKL":
        raise DataError(f"{value}: is a Python pickle, which is not read")
    return data
