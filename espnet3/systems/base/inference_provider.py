"""`InferenceProvider`: one test set and one model, built from an inference config."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from espnet3.components.instantiate import as_config, build_model, build_organizer
from espnet3.errors import ConfigError
from espnet3.parallel.engine.identity import file_stamps
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.runner_identity import plain
from espnet3.parallel.worker.env import keep_model
from espnet3.utils.resolvers import register_resolvers

logger = logging.getLogger(__name__)


class InferenceProvider(EnvironmentProvider):
    """Builds ``dataset`` and ``model`` from a config, once in each worker process.

    A recipe with needs of its own overrides `build_dataset` or `build_model`, which are static (or
    class) methods: workers have the class and the config, never the instance.

    Relative paths in the config are relative to the working directory of the process, on a worker
    too. (ESPnet3 changes into ``recipe_dir`` while it builds the model. Other threads share the
    working directory, and code that opens a file only later would look elsewhere.)

    Args:
        inference_config: The inference config, with ``test_set`` naming the test set. It is copied
            and never changed.
        params: Further entries of the env, laid over the config as well, so that `build_dataset`
            and `build_model` find them there.
    """

    def __init__(
        self,
        inference_config: DictConfig | Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.params: dict[str, Any] = dict(params or {})
        super().__init__(_merged(inference_config, self.params))

    def build_env_local(self) -> dict[str, Any]:
        """Build the env in this process: ``dataset``, ``model`` and the params."""
        return _build_env(type(self), self.config, self.params, self.model_key())

    def build_worker_setup_fn(self) -> Callable[[], dict[str, Any]]:
        """Give a function that builds the same env in a worker."""
        cls, config, params = type(self), self.config, dict(self.params)
        key = self.model_key()

        def build() -> dict[str, Any]:
            register_resolvers()  # a fresh process knows only OmegaConf's own
            return _build_env(cls, config, params, key)

        return build

    def model_key(self) -> str | None:
        """What the model is made from; a worker keeps its model for the next test set of this key.

        Returns:
            The model's block, the device and the model's files as text, or None where a subclass
            builds the model in its own way, which may depend on anything.
        """
        if type(self).build_model is not InferenceProvider.build_model:
            return None
        block = OmegaConf.to_container(self.config.get("model") or as_config({}), resolve=True)
        device = [self.config.get(key) for key in ("device", "device_index", "local_rank")]
        return json.dumps([plain(block), plain(device), file_stamps(block)], sort_keys=True)

    @staticmethod
    def build_dataset(config: DictConfig) -> Any:
        """Build the test set ``config.test_set`` of the organizer under ``config.dataset``.

        Without ``_target_`` the organizer is `DataOrganizer`. It gets ``config.recipe_dir`` unless
        the block has one.

        Raises:
            ConfigError: There is no such block or test set.
        """
        config = as_config(config)
        block = config.get("dataset")
        if block is None:
            raise ConfigError("dataset: is not set; it names the test sets, under dataset.test")
        test_set = config.get("test_set")
        organizer = build_organizer(block, config.get("recipe_dir"))
        if test_set not in organizer.test:
            there = ", ".join(map(str, organizer.test)) or "none"
            raise ConfigError(f"test_set: there is no test set {test_set!r}; there is {there}")
        return organizer.test[test_set]

    @staticmethod
    def build_model(config: DictConfig) -> Any:
        """Instantiate ``config.model`` with Hydra.

        ``device`` is passed if the target takes it (by name or as ``**kwargs``) or the block has
        the key; a value in the block itself is kept. See `resolve_device`.

        Raises:
            ConfigError: There is no such block, or no such device.
        """
        return build_model(as_config(config))


def _build_env(
    cls: type[InferenceProvider],
    config: DictConfig,
    params: Mapping[str, Any],
    model_key: str | None,
) -> dict[str, Any]:
    logger.info("building test set %s", config.get("test_set"))
    dataset = cls.build_dataset(config)
    model = keep_model(model_key, lambda: cls.build_model(config))
    return {"dataset": dataset, "model": model, **params}


def _merged(config: Any, params: Mapping[str, Any]) -> DictConfig:
    """Copy a config and lay params over it, objects that OmegaConf has no type for included."""
    merged = copy.deepcopy(config) if isinstance(config, DictConfig) else as_config(config)
    merged._set_flag("allow_objects", True)
    with open_dict(merged):
        for key, value in params.items():
            merged[key] = value
    return merged
