"""Values as entries of Kaldi ark files: many values in one file, each at an offset.

An entry is ``<utterance> `` and the value: a float vector or matrix as Kaldi writes them, WAV as
Kaldi reads it from an ark, or FLAC as kaldiio does.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from espnet3.errors import RecordRejected
from espnet3.utils.artifact_formats import ArtifactFormat
from espnet3.utils.artifacts import as_array, describe, is_tensor, render_artifact
from espnet3.utils.extras import import_extra

SHARD_ARK = "entries.ark"
"""Name of the file that holds the entries of one field in one shard, in the field's folder."""


def import_kaldiio() -> Any:
    """Import kaldiio.

    Raises:
        ConfigError: It is not installed; the message names the extra.
    """
    return import_extra("kaldiio", "reading and writing Kaldi arks")


def render_entry(utt_id: str, value: Any, how: ArtifactFormat, where: str) -> bytes:
    """Return the entry for a value, the utterance id in front included.

    Args:
        utt_id: The utterance.
        value: A float array, (dimensions,) or (frames, dimensions), or an int32 vector; with
            ``sample_rate`` among the options, audio as `render_artifact` takes it.
        how: The field's format, of type ``ark``.
        where: What the value is, for messages.

    Raises:
        RecordRejected: The value cannot be written like this.
    """
    kaldiio, entry = import_kaldiio(), io.BytesIO()
    value = as_array(value, where) if is_tensor(value) else value
    if "sample_rate" not in how.options:
        kaldiio.save_ark(entry, {utt_id: _kaldi_array(value, where)})
        return entry.getvalue()
    rate, samples = _samples(value, int(how.options["sample_rate"]), where)
    if how.options.get("audio") == "wav":
        kaldiio.save_ark(entry, {utt_id: (rate, samples)})
    else:
        kaldiio.save_ark(
            entry, {utt_id: (samples, rate)},
            write_function="soundfile", write_kwargs={"format": "flac", "subtype": "PCM_16"},
        )  # fmt: skip
    return entry.getvalue()


class ShardArk:
    """The entries of one field in one shard."""

    def __init__(self, shard_dir: str | os.PathLike[str], field: str) -> None:
        path = Path(shard_dir) / field / SHARD_ARK
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = path.open("wb", buffering=1 << 20)

    def add(self, entry: bytes) -> str:
        """Append an entry; return its first byte in the file and its end, for the shard's scp."""
        begin = self._handle.tell()
        self._handle.write(entry)
        return f"{begin} {begin + len(entry)}"

    def close(self) -> None:
        """Write out what is buffered."""
        self._handle.close()


def value_offset(utt_id: str) -> int:
    """How far behind the beginning of its entry a value begins."""
    return len(utt_id.encode()) + 1


def _kaldi_array(value: Any, where: str) -> np.ndarray[Any, Any]:
    if not isinstance(value, np.ndarray):
        raise RecordRejected(
            f"{where}: {describe(value)} does not go into an ark, which holds arrays and, with "
            "sample_rate, audio"
        )
    if value.ndim not in (1, 2):
        raise RecordRejected(
            f"{where}: an ark holds (dimensions,) or (frames, dimensions), not {value.shape}; "
            "reshape it, or use type: npy"
        )
    if (value.dtype.kind, value.dtype.itemsize) == ("i", 4) and value.ndim == 1:
        return np.ascontiguousarray(value, dtype="<i4")
    if value.dtype.kind != "f" or value.dtype.itemsize not in (2, 4, 8):
        raise RecordRejected(
            f"{where}: an ark holds float32 and float64, not {value.dtype}; convert it, or use "
            "type: npy"
        )
    return np.ascontiguousarray(value, dtype="<f8" if value.dtype.itemsize == 8 else "<f4")


def _samples(value: Any, rate: int, where: str) -> tuple[int, np.ndarray[Any, Any]]:
    """Return audio in 16 bits, with the same checks and rounding as in a file of its own."""
    import soundfile

    as_wav = ArtifactFormat("wav", None, {"sample_rate": rate})
    _, data = render_artifact(value, as_wav, where)
    samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    return rate, samples
