"""The audio files that data preparation writes: 16 bits, each in one step, many to a folder.

Their names depend on the utterance and on how many there are, never on the worker.
"""

from __future__ import annotations

import io
import logging
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from espnet3.components.data.audio.decoders import Samples
from espnet3.errors import DataError
from espnet3.utils import durable
from espnet3.utils.artifacts import write_bytes

logger = logging.getLogger(__name__)

AUDIO = "audio"
"""The directory with the files, below that of the step's results."""

FILES_IN_A_DIRECTORY = 4000
_HEX = 16
_FULL_SCALE = 32768
_UNSCALED = 10.0


def to_int16(samples: Samples, where: str) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return samples with full scale at 1.0 as 16-bit integers; what was 16 bits comes out exactly.

    What goes beyond full scale is clipped, with a warning.

    Raises:
        DataError: The samples were never scaled to 1.0.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > _UNSCALED:
        raise DataError(f"{where}: reaches {peak:g}, but floating-point audio has full scale at 1")
    scaled = np.rint(samples * np.float32(_FULL_SCALE))
    if peak > 1.0:
        n = int((np.abs(samples) > 1.0).sum())
        logger.warning("%s: %d samples beyond full scale (%g) are clipped", where, n, peak)
    return np.asarray(np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1), np.int16)


def n_hex_digits(n_utterances: int) -> int:
    """How many hexadecimal digits name a directory, so that none gets too many files."""
    n_hex = 0
    while n_utterances > FILES_IN_A_DIRECTORY * _HEX**n_hex:
        n_hex += 1
    return n_hex


def file_of(utt_id: str, suffix: str, n_hex: int) -> str:
    """Where an utterance's file is, below ``out_dir``."""
    folder = blake2b(utt_id.encode(), digest_size=8).hexdigest()[:n_hex]
    return "/".join(filter(None, (AUDIO, folder, f"{utt_id}.{suffix}")))


def write_audio(path: Path, samples: np.ndarray[Any, np.dtype[np.int16]], rate: int) -> None:
    """Write int16 of shape (samples,) in one step, as the format that the suffix names."""
    import soundfile

    content = io.BytesIO()  # a full disk is then Python's error, which says so
    soundfile.write(content, samples, rate, format=path.suffix[1:].upper(), subtype="PCM_16")
    write_bytes(path, content.getvalue())


def files_below(out: Path) -> set[str]:
    """Return the audio files, as paths below ``out_dir``; what killed workers left is removed."""
    found = set()
    for folder, _, names in os.walk(out / AUDIO):
        place = os.path.relpath(folder, out)
        for name in names:
            if name.startswith(".") and name.endswith(".tmp"):
                os.unlink(os.path.join(folder, name))
            else:
                found.add(f"{place}/{name}")
    return found


class Flushed:
    """Files that the shard answers for; they are on disk before it is committed."""

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def close(self) -> None:
        """Flush the files and their directories."""
        durable.fsync_paths(self.paths)
        durable.fsync_paths(sorted({path.parent for path in self.paths}))
