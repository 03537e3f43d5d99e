"""What decides the results of a ``collect_stats`` run, as plain data."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from espnet3.components.config_identity import (
    add_dataset_code,
    as_written,
    block_files,
    part_of_dataset,
)
from espnet3.parallel.code_identity import code_of, starts_of
from espnet3.parallel.engine.identity import FILES

_STATS = "collect_stats"
_AFTERWARDS = ("normalize", "normalize_conf")  # of a model; what is collected is for them


def stats_identity(
    provider: Any, base: dict[str, Any], batch_size: int | None, own_way: bool
) -> dict[str, Any]:
    """Return the identity of a run.

    Of the config that is the entries of this split alone, and the function or model that gives the
    features, with size and time of the files that these name; optimisers and other things of
    training do not count. The size of a batch counts for a model, whose last bits may depend on
    padding. Values count as `as_written` says.

    Args:
        provider: The runner's provider.
        base: What `BaseRunner.identity` says.
        batch_size: The runner's.
        own_way: The provider's class may read any key: all count.
    """
    config = getattr(provider, "config", None)
    split = getattr(provider, "split", None)
    if own_way or not isinstance(config, DictConfig):
        return {**base, "split": split, "batch_size": batch_size}
    identity = {k: v for k, v in base.items() if not k.startswith(("config.", FILES))}
    dataset, features = _what_counts(config, str(split))
    identity |= {"split": split, "dataset": dataset, **features}
    if "model" in features:
        identity |= {"batch_size": batch_size, "model_files": block_files(config, "model")}
    counted = tuple(f"{FILES}{key}" for key in (f"dataset.{split}[", "dataset.prepro", _STATS))
    identity |= {key: value for key, value in base.items() if key.startswith(counted)}
    return identity


def stats_code(runner: type, provider: Any) -> dict[str, str] | None:
    """A hash for each of the user's modules that the features and this split's data come from.

    Returns:
        None if the provider has no config to tell by.
    """
    config, split = getattr(provider, "config", None), str(getattr(provider, "split", ""))
    if not isinstance(config, DictConfig):
        return None
    dataset, features = _what_counts(config, split)
    starts = starts_of(runner, provider, [dataset, features])
    function = features[_STATS].get("collect_feats")
    if isinstance(function, str):
        starts.names.append(function)
    add_dataset_code(starts, config, dataset.get(split) or [])
    return code_of(starts)


def _what_counts(config: DictConfig, split: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the config as written: the split's data, and what gives the features."""
    written = as_written(config)
    block = {k: v for k, v in (written.get(_STATS) or {}).items() if k != "batch_size"}
    features: dict[str, Any] = {_STATS: block}
    if block.get("collect_feats") is None:
        model = written.get("model") or {}
        features["model"] = {k: v for k, v in model.items() if k not in _AFTERWARDS}
    return part_of_dataset(config, written, split), features
