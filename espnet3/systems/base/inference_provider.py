"""`InferenceProvider`: one test set and one model, built from an inference config."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from espnet3.errors import ConfigError
from espnet3.parallel.engine.identity import file_stamps
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.runner_identity import plain
from espnet3.parallel.worker.env import keep_model
from espnet3.utils.resolvers import register_resolvers

logger = logging.getLogger(__name__)

_HYDRA_KEYS = ("_target_", "_recursive_", "_convert_", "_partial_")


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
        block = OmegaConf.to_container(self.config.get("model") or _as_config({}), resolve=True)
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
        config = _as_config(config)
        block = config.get("dataset")
        if block is None:
            raise ConfigError("dataset: is not set; it names the test sets, under dataset.test")
        test_set = config.get("test_set")
        organizer = _build_organizer(block, config.get("recipe_dir"))
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
        from hydra.utils import instantiate

        config = _as_config(config)
        block = config.get("model")
        if block is None:
            raise ConfigError("model: is not set; it is a block whose _target_ makes the model")
        if block.get("device") is None and ("device" in block or _takes(block, "device")):
            return instantiate(block, device=resolve_device(config))
        return instantiate(block)


def resolve_device(config: Mapping[str, Any]) -> str:
    """Say on which device this process is to compute, as PyTorch writes it.

    ``config.device`` if it is set. Otherwise the GPU numbered ``config.device_index``, else
    ``config.local_rank``, else the environment's ``LOCAL_RANK``, else 0, among the GPUs that this
    process sees: ``CUDA_VISIBLE_DEVICES`` has been applied already, so its numbers are never used.
    ``cpu`` without GPU or without PyTorch, which is imported only if a GPU is possible.

    Raises:
        ConfigError: The number is no number, or there are not so many GPUs.
    """
    explicit = config.get("device")
    if explicit not in (None, ""):
        return str(explicit)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return "cpu"
    if importlib.util.find_spec("torch") is None:
        return "cpu"
    torch: Any = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return "cpu"
    name, raw = _device_number(config)
    try:
        number = int(str(raw))
    except ValueError:
        raise ConfigError(f"{name}: {raw!r} is no number of a GPU") from None
    n_visible = int(torch.cuda.device_count())
    if not 0 <= number < n_visible:
        raise ConfigError(
            f"{name}: there is no GPU {number}; this process sees {n_visible} (numbered from 0; "
            f"CUDA_VISIBLE_DEVICES is {visible!r})"
        )
    return f"cuda:{number}"


def _device_number(config: Mapping[str, Any]) -> tuple[str, Any]:
    for key in ("device_index", "local_rank"):
        if config.get(key) not in (None, ""):
            return key, config[key]
    rank = os.environ.get("LOCAL_RANK", "").strip()
    return ("LOCAL_RANK", rank) if rank else ("device_index", 0)


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


def _build_organizer(block: Any, recipe_dir: Any) -> Any:
    takes_recipe_dir = "_target_" not in block or _takes(block, "recipe_dir")
    extra = {}
    if recipe_dir is not None and block.get("recipe_dir") is None and takes_recipe_dir:
        extra["recipe_dir"] = recipe_dir
    if "_target_" in block:
        from hydra.utils import instantiate

        # Not recursive: the organizer builds entries and preprocessors itself, when asked for them.
        return instantiate(block, _recursive_=False, **extra)
    from espnet3.components.data.data_organizer import DataOrganizer

    given = {key: block[key] for key in block if key not in _HYDRA_KEYS}
    return DataOrganizer(**{**given, **extra})


def _takes(block: Any, name: str) -> bool:
    """Whether the target of a block takes an argument of that name."""
    from hydra.utils import get_object

    target = block.get("_target_")
    if not isinstance(target, str):
        return False
    try:
        parameters = inspect.signature(get_object(target)).parameters.values()
    except (TypeError, ValueError):  # a compiled class does not say what it takes
        return False
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def _as_config(config: Any) -> DictConfig:
    if isinstance(config, DictConfig):
        return config
    return OmegaConf.create(dict(config or {}), flags={"allow_objects": True})


def _merged(config: Any, params: Mapping[str, Any]) -> DictConfig:
    """Copy a config and lay params over it, objects that OmegaConf has no type for included."""
    merged = copy.deepcopy(config) if isinstance(config, DictConfig) else _as_config(config)
    merged._set_flag("allow_objects", True)
    with open_dict(merged):
        for key, value in params.items():
            merged[key] = value
    return merged
