"""Which code decides the results of an inference run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from espnet3.components.data.dataset_module import local_module, module_name
from espnet3.parallel.code_identity import Starts, code_of, starts_of
from espnet3.systems.base.inference_identity import (
    as_written,
    builds_its_own_way,
    this_test_set,
)


def inference_code(runner: type, provider: Any) -> dict[str, str] | None:
    """A hash for each of the user's modules that decode one test set.

    These are the modules of the runner, the provider, the ``output_fn``, the recipe's data set, and
    of every ``_target_`` of the model and of this test set, with the local modules that they
    import. Where the provider builds data set or model in its own way, every ``_target_`` counts,
    but for those of other test sets. A recipe's own ``dataset/`` is called ``dataset``, wherever
    the recipe is.

    Args:
        runner: The runner's class.
        provider: The runner's provider.

    Returns:
        None if the provider has no config to tell by.
    """
    config = getattr(provider, "config", None)
    if not isinstance(config, DictConfig):
        return None
    written = as_written(config)
    dataset = this_test_set(config, written)
    if builds_its_own_way(type(provider)):
        block = written.get("dataset")
        counted = {**written, "dataset": dataset if isinstance(block, dict) else block}
    else:
        counted = {"model": written.get("model"), "dataset": dataset}
    params = getattr(provider, "params", None) or {}
    starts = starts_of(runner, provider, [counted, dict(params)])
    output_fn = params.get("output_fn_path") or written.get("output_fn")
    if isinstance(output_fn, str):
        starts.names.append(output_fn)
    _add_dataset(starts, config, dataset.get("test"))
    return code_of(starts)


def _add_dataset(starts: Starts, config: DictConfig, entry: Any) -> None:
    data_src = entry.get("data_src") if isinstance(entry, Mapping) else None
    if isinstance(data_src, str) and data_src.strip():
        starts.names.append(module_name(data_src.strip()))
        return
    try:
        recipe_dir = OmegaConf.select(config, "dataset.recipe_dir") or config.get("recipe_dir")
    except OmegaConfBaseException:
        return
    if recipe_dir:
        name, init = local_module(str(recipe_dir))
        if init.is_file():
            starts.files[name] = str(init)
            starts.called[name] = "dataset"
