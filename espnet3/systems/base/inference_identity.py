"""What decides the results of an inference run, as plain data."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from espnet3.components.config_identity import (
    as_written,
    block_files,
    builds_its_own_way,
    part_of_dataset,
)
from espnet3.parallel.engine.identity import FILES, config_key
from espnet3.parallel.runner_identity import plain
from espnet3.systems.base.inference_provider import InferenceProvider

_KEYS = (
    "model", "input_key", "output_fn", "output_keys", "output_artifacts", "idx_key",
)  # fmt: skip
_PARAMS = ("input_key", "output_keys", "output_artifacts", "output_fn_path", "idx_key")


def inference_identity(
    provider: Any, base: dict[str, Any], dataset_fingerprint: str | None
) -> dict[str, Any]:
    """Return the identity of a run.

    Of the config that is ``model``, the entry of this test set alone, and how outputs are made; of
    the files that ``model`` names, size and time. Where the provider's class builds the dataset or
    the model in its own way, any other key may count too, and all do (but for places). Adding a
    test set to a config therefore changes nothing for the others.

    Values count as `as_written` says.

    Args:
        provider: The runner's provider.
        base: What `BaseRunner.identity` says.
        dataset_fingerprint: What the dataset says of its content, if it does.
    """
    said = {} if dataset_fingerprint is None else {"dataset_fingerprint": dataset_fingerprint}
    config = getattr(provider, "config", None)
    if not isinstance(config, DictConfig):
        return {**base, **said}
    said_below = ("config.", FILES)
    identity = {key: value for key, value in base.items() if not key.startswith(said_below)}
    written = as_written(config)
    if builds_its_own_way(type(provider), InferenceProvider):
        left_out = {f"config.{key}" for key in ("dataset", "test_set", *_KEYS, *_PARAMS)}
        for key in base:
            if key.startswith("config.") and key not in left_out:
                identity[key] = written[key.removeprefix("config.")]
            elif key.startswith(FILES) and config_key(key) not in left_out:
                identity[key] = base[key]
    identity.update({key: written[key] for key in _KEYS if written.get(key) is not None})
    identity["dataset"] = part_of_dataset(config, written, "test", config.get("test_set"))
    params = getattr(provider, "params", None) or {}
    identity["params"] = {k: plain(v) for k, v in params.items() if k not in _PARAMS}
    identity["model_files"] = block_files(config, "model")
    return {**identity, **said}
