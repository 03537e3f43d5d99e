"""Reading what the builder has made."""

from __future__ import annotations

from pathlib import Path

from espnet3.components.data.kaldi_dataset import KaldiDataset
from espnet3.errors import DataError

from .builder import SAMPLE_RATE


class PromptsDataset(KaldiDataset):
    """The prompts of one language, sorted by id; see `KaldiDataset` for what an item has.

    Args:
        language: One that was built.
        recipe_dir: The recipe that the data were built in; the one that this file belongs to if
            left out.

    Raises:
        DataError: The language has not been built.
    """

    def __init__(self, language: str, recipe_dir: str | Path | None = None) -> None:
        recipe = Path(recipe_dir) if recipe_dir is not None else Path(__file__).parents[1]
        data = recipe / "data" / language
        if not data.is_dir():
            raise DataError(
                f"language {language!r} of asterisk_prompts is not there ({data} is missing): name "
                "it in create_dataset.languages and run the create_dataset stage"
            )
        super().__init__(data, sample_rate=SAMPLE_RATE)
