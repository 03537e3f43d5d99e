"""A Kaldi data directory as a data set, which a config can name without any code of its own::

    dataset:
      test:
        - name: test
          data_src: espnet3.components.data.kaldi_dataset
          data_src_args: {path: data/test}

The other arguments are those of `KaldiDataset`.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

from espnet3.components.data.audio.read import Channel
from espnet3.components.data.base_dataset import BaseDataset
from espnet3.components.data.kaldi.checks import is_pipe
from espnet3.components.data.kaldi.directory import read_kaldi_dir
from espnet3.components.data.kaldi.values import (
    read_audio_value,
    read_matrix_value,
    sample_rate_of,
)
from espnet3.errors import DataError


class KaldiDataset(BaseDataset):
    """The utterances of a Kaldi data directory, in its order.

    An item has ``utt_id``; ``speech`` (float32 array of shape (samples,), full scale at 1.0) and
    ``sample_rate`` (Hz), or where there is no ``wav.scp``, ``feats`` of ``feats.scp`` (float32 of
    shape (frames, dimensions)); ``text`` and ``speaker`` where the directory has them.

    Relative paths in the directory's files count from the current directory, as everywhere in
    Kaldi. ``durations()`` is there where lengths are known without reading audio: from
    ``utt2dur``, ``segments``, or ``utt2num_samples`` with a known sample rate.

    Args:
        path: The directory.
        allow_pipes: Whether ``command |`` in an scp file may be run, by the shell.
        channel: From 0, or ``mean``, for recordings with several channels.
        sample_rate: Hz, of ``utt2num_samples``; by default that of the first recording. It is not
            looked at otherwise: nothing is resampled.

    Raises:
        DataError: The directory is not valid (see `read_kaldi_dir`), or has no audio.
    """

    thread_safe = True  # every item opens its own file

    def __init__(
        self,
        path: str | Path,
        allow_pipes: bool = False,
        channel: Channel = None,
        sample_rate: int | None = None,
    ) -> None:
        self._dir = read_kaldi_dir(path, allow_pipes)
        self._channel = channel
        self._given_rate = sample_rate
        if "wav.scp" not in self._dir and "feats.scp" not in self._dir:
            raise DataError(f"{path} has neither wav.scp nor feats.scp")
        self._recordings = self._dir["wav.scp"].as_dict() if "segments" in self._dir else {}

    def __len__(self) -> int:
        return len(self._dir.utterances)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = {"utt_id": self._dir.utterances[index]}
        try:
            self._read_into(item, index)
        except DataError as error:
            raise DataError(f"utterance {item['utt_id']!r}: {error}") from error
        for key, name in _COLUMNS.items():
            if name in self._dir:
                item[key] = self._dir[name].values[index]
        return item

    def utt_id(self, index: int) -> str:
        """Return an utterance's id."""
        return self._dir.utterances[index]

    def column(self, name: str) -> list[str]:
        """Return ``utt_id``, ``text`` or ``speaker`` of every utterance.

        Raises:
            KeyError: It is another field, or the directory does not have it.
        """
        if name == "utt_id":
            return list(self._dir.utterances)
        if name not in _COLUMNS or _COLUMNS[name] not in self._dir:
            raise KeyError(name)
        return list(self._dir[_COLUMNS[name]].values)

    def fingerprint(self) -> str:
        """Return a digest of where the audio is, segments, texts and speakers, but not samples."""
        digest = hashlib.sha256()
        for name in ("wav.scp", "segments", "feats.scp", "text", "utt2spk"):
            if name in self._dir:
                table = self._dir[name]
                digest.update(f"{name} {len(table)}\n".encode())
                digest.update("\n".join(table.keys).encode() + b"\n\n")
                digest.update("\n".join(table.values).encode() + b"\n\n")
        return digest.hexdigest()

    def __getattr__(self, name: str) -> Any:
        # Wrappers ask with hasattr; `_dir` is missing in an unpickled object that is still empty.
        if name == "durations" and "_dir" in self.__dict__ and self._seconds is not None:
            return self._durations
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _durations(self) -> list[float]:
        return list(self._seconds or [])

    @cached_property
    def _seconds(self) -> list[float] | None:
        """Seconds of every utterance; `None` where they cannot be told without reading audio."""
        if "utt2dur" in self._dir:
            return [float(value) for value in self._dir["utt2dur"].values]
        if "segments" in self._dir:
            segments = self._dir.segments
            return [e - s for s, e in zip(segments.starts, segments.ends, strict=True)]
        if "utt2num_samples" not in self._dir:
            return None
        rate = self._given_rate or self._rate_of_first_recording()
        if rate is None:
            return None
        return [int(value) / rate for value in self._dir["utt2num_samples"].values]

    def _rate_of_first_recording(self) -> int | None:
        values = self._dir["wav.scp"].values if "wav.scp" in self._dir else []
        if not values or is_pipe(values[0]):
            return None
        try:
            return sample_rate_of(values[0])
        except (OSError, RuntimeError, ValueError):  # reading the item will say what is wrong
            return None

    def _read_into(self, item: dict[str, Any], index: int) -> None:
        if "wav.scp" not in self._dir:
            item["feats"] = read_matrix_value(self._dir["feats.scp"].values[index])
            return
        if "segments" in self._dir:
            segments = self._dir.segments
            value = self._recordings[segments.recordings[index]]
            start, end = segments.starts[index], segments.ends[index]
            read = read_audio_value(value, start, end, self._channel)
        else:
            read = read_audio_value(self._dir["wav.scp"].values[index], channel=self._channel)
        item["speech"], item["sample_rate"] = read


_COLUMNS = {"text": "text", "speaker": "utt2spk"}

Dataset = KaldiDataset  # the name under which a config's `data_src` finds it
