"""Finding the module that holds a recipe's ``Dataset`` and ``DatasetBuilder``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from espnet3.errors import ConfigError
from espnet3.parallel.modules_by_path import register


def load_dataset_module(
    data_src: str | None = None, recipe_dir: str | Path | None = None
) -> ModuleType:
    """Import the module that a data set entry points at.

    Args:
        data_src: ``corpus/task`` for ``egs3.<corpus>.<task>.dataset`` (hyphens become underscores),
            a dotted module path, or `None` for the recipe's own ``<recipe_dir>/dataset``.
        recipe_dir: The recipe, needed when `data_src` is `None`. A relative path counts from the
            current directory.

    Returns:
        The module. A recipe's own one is loaded from its path once per process, under a made-up
        name; its classes and their instances can be sent to workers.

    Raises:
        ConfigError: nothing is there; the message says what was looked for and where. An error
            inside the module is passed on as it is.
    """
    if data_src is None:
        return _load_local(recipe_dir)
    name = module_name(data_src)
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"data_src {data_src!r} stands for {name!r}, which is no module name")
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise  # the module is there; something that it imports is not
        raise ConfigError(
            f"data_src {data_src!r}: there is no module {error.name!r} (looked for {name!r} on "
            "sys.path). Give <corpus>/<task> of a recipe under egs3/, a dotted module path, or "
            "leave data_src out to use the recipe's own dataset/ directory."
        ) from error


def module_name(data_src: str) -> str:
    """The name of the module that ``data_src`` stands for."""
    if "/" in data_src:
        return f"egs3.{data_src.strip('/').replace('-', '_').replace('/', '.')}.dataset"
    return data_src


def local_module(recipe_dir: str | Path) -> tuple[str, Path]:
    """The made-up name of a recipe's own dataset module, and its file, which may not be there."""
    init = Path(recipe_dir).resolve() / "dataset" / "__init__.py"
    digest = hashlib.sha256(str(init).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"_espnet3_dataset_{digest}", init


def instantiate_dataset_reference(
    config: Mapping[str, Any] | DictConfig, recipe_dir: str | Path | None = None
) -> Any:
    """Build ``Dataset(**data_src_args)`` of the module that `config` points at.

    Args:
        config: An entry with optional ``data_src`` and ``data_src_args``; its other keys are not
            looked at here.
        recipe_dir: The recipe, for an entry without ``data_src``.

    Raises:
        ConfigError: the module is not found, has no ``Dataset``, or one of the two keys is of the
            wrong type. What ``Dataset()`` raises is passed on.
    """
    data_src, arguments = parse_dataset_reference(config)
    module = load_dataset_module(data_src, recipe_dir)
    if not hasattr(module, "Dataset"):
        raise ConfigError(
            f"data_src {data_src or 'local'!r}: {module.__file__} has no `Dataset`; export the "
            "recipe's data set class under that name"
        )
    return module.Dataset(**arguments)


def parse_dataset_reference(
    config: Mapping[str, Any] | DictConfig,
) -> tuple[str | None, dict[str, Any]]:
    """Return ``data_src`` (`None` if left out or blank) and ``data_src_args`` of an entry."""
    plain = OmegaConf.to_container(config) if isinstance(config, DictConfig) else config
    if not isinstance(plain, Mapping):
        raise ConfigError(f"a data set entry is a mapping, not {config!r}")
    data_src = plain.get("data_src")
    arguments = plain.get("data_src_args")
    if data_src is not None and not isinstance(data_src, str):
        raise ConfigError(f"data_src is text such as mini_an4/asr, not {data_src!r}")
    if arguments is not None and not isinstance(arguments, Mapping):
        raise ConfigError(f"data_src_args is a mapping of arguments, not {arguments!r}")
    return (data_src or "").strip() or None, {str(k): v for k, v in (arguments or {}).items()}


def _load_local(recipe_dir: str | Path | None) -> ModuleType:
    if recipe_dir is None:
        raise ConfigError(
            "a data set entry has no data_src, so the recipe's own dataset/ directory is meant, "
            "but recipe_dir is not set; set `recipe_dir: ${recipe_dir}` beside the entries"
        )
    name, init = local_module(recipe_dir)
    if not init.is_file():
        raise ConfigError(
            f"a data set entry has no data_src, and {init} does not exist (recipe_dir is "
            f"{str(recipe_dir)!r}); set data_src, correct recipe_dir, or write that file"
        )
    register({name: str(init)})
    return import_module(name)
