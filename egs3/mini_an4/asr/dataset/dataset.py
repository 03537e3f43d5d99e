"""Reading what the builder has written."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import soundfile

from espnet3.components.data.base_dataset import BaseDataset
from espnet3.errors import DataError

from .manifest import manifest_path, read_manifest


class MiniAn4Dataset(BaseDataset):
    """One split, sorted by utterance id.

    An item has ``utt_id``, ``speech`` (float32 array of shape (samples,), in [-1, 1), exact from 16
    bits), ``sample_rate`` (Hz) and ``text`` (upper case, as AN4 writes it).

    Args:
        split: ``train`` or ``test``.
        recipe_dir: The recipe that the data were built in; the one that this file belongs to if
            left out.

    Raises:
        DataError: the split has not been built.
    """

    thread_safe = True  # every item opens its own file

    def __init__(self, split: str, recipe_dir: str | Path | None = None) -> None:
        recipe = Path(recipe_dir) if recipe_dir is not None else Path(__file__).parents[1]
        self._manifest = manifest_path(recipe, split)
        if not self._manifest.is_file():
            raise DataError(
                f"split {split!r} of mini_an4 is not there ({self._manifest} is missing): run the "
                "create_dataset stage first, or correct the split (train or test)"
            )
        self._utterances = read_manifest(self._manifest)

    def __len__(self) -> int:
        return len(self._utterances)

    def __getitem__(self, index: int) -> dict[str, Any]:
        utterance = self._utterances[index]
        speech, rate = soundfile.read(self._manifest.parent / utterance.wav, dtype="float32")
        return {
            "utt_id": utterance.utt_id,
            "speech": speech,
            "sample_rate": rate,
            "text": utterance.text,
        }

    def utt_id(self, index: int) -> str:
        """Return an utterance's id."""
        return self._utterances[index].utt_id

    def durations(self) -> list[float]:
        """Return the seconds of every utterance."""
        return [utterance.seconds for utterance in self._utterances]

    def column(self, name: str) -> list[str]:
        """Return ``utt_id`` or ``text`` of every utterance; `KeyError` for what needs the audio."""
        if name not in ("utt_id", "text"):
            raise KeyError(name)
        return [getattr(utterance, name) for utterance in self._utterances]

    def fingerprint(self) -> str:
        """Return a digest of the manifest: ids, lengths and texts, but not the samples."""
        return hashlib.sha256(self._manifest.read_bytes()).hexdigest()
