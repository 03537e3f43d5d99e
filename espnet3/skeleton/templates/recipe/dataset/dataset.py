"""Reading what the builder has written."""

from __future__ import annotations

from pathlib import Path

from espnet3.components.data.manifest import ManifestDataset
from espnet3.errors import DataError


def manifest_path(recipe_dir: str | Path, split: str) -> Path:
    """Return where the manifest of a split lies."""
    return Path(recipe_dir) / "data" / f"{split}.tsv"


class Dataset(ManifestDataset):
    """One split, sorted by utterance id.

    An item has ``utt_id``, ``speech`` (float32 array of shape (samples,), full scale at 1.0),
    ``sample_rate`` (Hz), ``seconds`` and ``text``.

    Args:
        split: ``train`` or ``test``.
        recipe_dir: The recipe whose data they are; this one if left out.

    Raises:
        DataError: The split has not been built.
    """

    def __init__(self, split: str, recipe_dir: str | Path | None = None) -> None:
        recipe = Path(recipe_dir) if recipe_dir is not None else Path(__file__).parents[1]
        manifest = manifest_path(recipe, split)
        if not manifest.is_file():
            raise DataError(
                f"split {split!r} of @corpus@ is not there ({manifest} is missing): run the "
                "create_dataset stage first, or correct the split"
            )
        super().__init__(manifest)
