"""Which code decides the results of an inference run."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from espnet3.components.config_identity import (
    add_dataset_code,
    as_written,
    builds_its_own_way,
    part_of_dataset,
)
from espnet3.parallel.code_identity import code_of, starts_of
from espnet3.systems.base.inference_provider import InferenceProvider


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
    dataset = part_of_dataset(config, written, "test", config.get("test_set"))
    if builds_its_own_way(type(provider), InferenceProvider):
        block = written.get("dataset")
        counted = {**written, "dataset": dataset if isinstance(block, dict) else block}
    else:
        counted = {"model": written.get("model"), "dataset": dataset}
    params = getattr(provider, "params", None) or {}
    starts = starts_of(runner, provider, [counted, dict(params)])
    output_fn = params.get("output_fn_path") or written.get("output_fn")
    if isinstance(output_fn, str):
        starts.names.append(output_fn)
    add_dataset_code(starts, config, [dataset.get("test")])
    return code_of(starts)
