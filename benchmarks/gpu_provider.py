"""The provider of the GPU benchmark, as a recipe with a data set of its own has one."""

from typing import Any

from benchmarks.gpu_corpus import Recordings
from espnet3.systems.base.inference_provider import InferenceProvider


class RecordingsProvider(InferenceProvider):
    """Reads the recordings under ``config.corpus``; the model is the config's."""

    @staticmethod
    def build_dataset(config: Any) -> Recordings:
        """Give the first ``config.n_items`` utterances of the corpus."""
        return Recordings(config.corpus, config.n_items)
