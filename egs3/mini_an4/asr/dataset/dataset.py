"""Reading what the builder has written."""

from __future__ import annotations

from pathlib import Path

from espnet3.components.data.manifest import ManifestDataset
from espnet3.errors import DataError


def manifest_path(recipe_dir: str | Path, split: str) -> Path:
    """Return where the manifest of a split lies; its audio is named relative to it."""
    return Path(recipe_dir) / "data" / split / "manifest.tsv"


class MiniAn4Dataset(ManifestDataset):
    """One split, sorted by utterance id.

    An item has ``utt_id``, ``speech`` (float32 array of shape (samples,), in [-1, 1), exact from 16
    bits), ``sample_rate`` (Hz), ``seconds`` and ``text`` (upper case, as AN4 writes it).

    Args:
        split: ``train`` or ``test``.
        recipe_dir: The recipe that the data were built in; the one that this file belongs to if
            left out.

    Raises:
        DataError: the split has not been built.
    """

    def __init__(self, split: str, recipe_dir: str | Path | None = None) -> None:
        recipe = Path(recipe_dir) if recipe_dir is not None else Path(__file__).parents[1]
        manifest = manifest_path(recipe, split)
        if not manifest.is_file():
            raise DataError(
                f"split {split!r} of mini_an4 is not there ({manifest} is missing): run the "
                "create_dataset stage first, or correct the split (train or test)"
            )
        super().__init__(manifest)
