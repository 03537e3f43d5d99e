"""What is built once in each process: the test set and the model."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from espnet3.systems.base.inference_provider import InferenceProvider


class Provider(InferenceProvider):
    """Builds ``dataset`` and ``model`` from conf/inference.yaml.

    TODO: Do here what a model needs beside the arguments in its block: load a checkpoint, warm up.
    If it needs nothing, remove this file and `provider:` from conf/inference.yaml: a model that is
    made from its block alone is kept in memory from one test set to the next.
    """

    @staticmethod
    def build_model(config: DictConfig) -> Any:
        """Build the model of ``config.model``, on the device of this process."""
        return InferenceProvider.build_model(config)
