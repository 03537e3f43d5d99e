"""Making hypotheses comparable with the transcripts, which were normalised when they were built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from egs3.asterisk_prompts.asr.dataset.transcripts import normalizer

_normalize = normalizer("en")


def with_normalised_text(
    data: Mapping[str, Any], model_output: Mapping[str, str], idx: int
) -> dict[str, str]:
    """Return ``text``, as the model gave it, and ``normalised``."""
    text = model_output["text"]
    return {"text": text, "normalised": _normalize(text)}
