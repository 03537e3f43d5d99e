"""PocketSphinx as a model: audio in, words out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pocketsphinx


class PocketSphinxModel:
    """Decodes 16 kHz mono speech with the US English acoustic model of pocketsphinx's wheel.

    One decoder per process: it is not thread-safe, and it holds the GIL while it decodes.

    Args:
        lm: Language model file (ARPA or binary); left out, the general one of the wheel.
        dictionary: Pronunciation dictionary; hypotheses have its spelling, upper case for AN4. Left
            out, that of the wheel: CMUdict, lower case.
        device: What the provider has chosen. The decoder knows the CPU only.

    Raises:
        FileNotFoundError: `lm` or `dictionary` is not there.
    """

    def __init__(
        self, lm: str | None = None, dictionary: str | None = None, device: str = "cpu"
    ) -> None:
        lm = lm or pocketsphinx.get_model_path("en-us/en-us.lm.bin")
        dictionary = dictionary or pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")
        for path in (lm, dictionary):
            if not Path(path).is_file():
                raise FileNotFoundError(f"{path} is missing; run the create_dataset stage first")
        self._decoder = pocketsphinx.Decoder(
            hmm=pocketsphinx.get_model_path("en-us/en-us"),
            lm=str(lm),
            dict=str(dictionary),
            loglevel="FATAL",
        )

    def __call__(self, speech: np.ndarray[Any, Any]) -> dict[str, str]:
        """Decode one utterance.

        Args:
            speech: Samples of shape (n,): int16, or float in [-1, 1).

        Returns:
            ``{"text": words}``, empty where nothing was recognised.
        """
        if not len(speech):
            return {"text": ""}
        if speech.dtype != np.int16:
            speech = np.clip(np.rint(speech * 32768.0), -32768, 32767).astype(np.int16)
        # Cepstral means adapt from one utterance to the next; without this the result would depend
        # on what this process decoded before.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(speech.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return {"text": hypothesis.hypstr if hypothesis is not None else ""}
