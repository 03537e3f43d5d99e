"""The model: audio in, words out."""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)


class PlaceholderModel:
    """Says what it was given. TODO: your model; its arguments stand in conf/inference.yaml.

    Args:
        device: What the provider has chosen; a PyTorch model is moved there.
    """

    def __init__(self, device: str = "cpu") -> None:
        logger.warning("src/model.py: this is the placeholder model: it decodes nothing")

    def __call__(self, speech: Any) -> dict[str, str]:
        """Decode one utterance.

        Args:
            speech: @shape@

        Returns:
            What is written: each field that ``output_keys`` names into a file of its own.
        """
        return {"text": f"<placeholder for {len(speech)} @things@>"}
