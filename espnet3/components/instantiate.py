"""The ``dataset`` and ``model`` blocks of a config, built, on the device of this process."""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from espnet3.errors import ConfigError

_HYDRA_KEYS = ("_target_", "_recursive_", "_convert_", "_partial_")


def build_organizer(block: Any, recipe_dir: Any, **more: Any) -> Any:
    """Build the data organizer of a ``dataset`` block; `DataOrganizer` without ``_target_``.

    Args:
        block: The block.
        recipe_dir: Passed on unless the block has one of its own.
        **more: Further arguments, for an organizer that takes them; those of the block win.
    """
    extra = {
        key: value
        for key, value in {"recipe_dir": recipe_dir, **more}.items()
        if value is not None and block.get(key) is None
        if "_target_" not in block or takes(block, key)
    }
    if "_target_" in block:
        from hydra.utils import instantiate

        # Not recursive: the organizer builds entries and preprocessors itself, when asked for them.
        return instantiate(block, _recursive_=False, **extra)
    from espnet3.components.data.data_organizer import DataOrganizer

    given = {key: block[key] for key in block if key not in _HYDRA_KEYS}
    return DataOrganizer(**{**given, **extra})


def build_model(config: DictConfig) -> Any:
    """Instantiate ``config.model`` with Hydra.

    ``device`` is passed if the target takes it (by name or as ``**kwargs``) or the block has the
    key; a value in the block itself is kept. See `resolve_device`.

    Raises:
        ConfigError: There is no such block, or no such device.
    """
    from hydra.utils import instantiate

    block = config.get("model")
    if block is None:
        raise ConfigError("model: is not set; it is a block whose _target_ makes the model")
    if block.get("device") is None and ("device" in block or takes(block, "device")):
        return instantiate(block, device=resolve_device(config))
    return instantiate(block)


def resolve_device(config: Mapping[str, Any]) -> str:
    """Say on which device this process is to compute, as PyTorch writes it.

    ``config.device`` if it is set. Otherwise the GPU numbered ``config.device_index``, else
    ``config.local_rank``, else the environment's ``LOCAL_RANK``, else 0, among the GPUs that this
    process sees: ``CUDA_VISIBLE_DEVICES`` has been applied already, so its numbers are never used,
    and where it leaves one GPU, ``LOCAL_RANK`` has been applied too.
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
    n_visible = int(torch.cuda.device_count())
    if name == "LOCAL_RANK" and n_visible == 1:
        return "cuda:0"
    try:
        number = int(str(raw))
    except ValueError:
        raise ConfigError(f"{name}: {raw!r} is no number of a GPU") from None
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


def takes(block: Any, name: str) -> bool:
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


def as_config(config: Any) -> DictConfig:
    """A config as one of OmegaConf; objects that it has no type for are let in."""
    if isinstance(config, DictConfig):
        return config
    return OmegaConf.create(dict(config or {}), flags={"allow_objects": True})
