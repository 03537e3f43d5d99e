"""What decides the results of an inference run, as plain data."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from espnet3.parallel.engine.identity import FILES, config_key, file_stamps
from espnet3.parallel.runner_identity import plain
from espnet3.systems.base.inference_provider import InferenceProvider
from espnet3.utils.masking import is_secret_key

_KEYS = (
    "model", "input_key", "output_fn", "output_keys", "output_artifacts", "idx_key",
)  # fmt: skip
_PARAMS = ("input_key", "output_keys", "output_artifacts", "output_fn_path", "idx_key")
_REFERENCE = re.compile(r"\$\{\s*\.*([A-Za-z_][\w.-]*)\s*\}")


def inference_identity(
    provider: Any, base: dict[str, Any], dataset_fingerprint: str | None
) -> dict[str, Any]:
    """Return the identity of a run.

    Of the config that is ``model``, the entry of this test set alone, and how outputs are made; of
    the files that ``model`` names, size and time. Where the provider's class builds the dataset or
    the model in its own way, any other key may count too, and all do (but for places). Adding a
    test set to a config therefore changes nothing for the others.

    Values count as they are written: ``${exp_dir}/model.pth`` stays the same when ``exp_dir``
    moves. But ``beam_size: ${beam}`` counts by the number behind it, as does every interpolation of
    a number or a word; not those that run a resolver, lead to a path, or go by a secret's name.

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
    if builds_its_own_way(type(provider)):
        left_out = {f"config.{key}" for key in ("dataset", "test_set", *_KEYS, *_PARAMS)}
        for key in base:
            if key.startswith("config.") and key not in left_out:
                identity[key] = written[key.removeprefix("config.")]
            elif key.startswith(FILES) and config_key(key) not in left_out:
                identity[key] = base[key]
    identity.update({key: written[key] for key in _KEYS if written.get(key) is not None})
    identity["dataset"] = this_test_set(config, written)
    params = getattr(provider, "params", None) or {}
    identity["params"] = {k: plain(v) for k, v in params.items() if k not in _PARAMS}
    identity["model_files"] = _model_files(config)
    return {**identity, **said}


def as_written(config: DictConfig) -> dict[str, Any]:
    """A config as plain data, interpolations as `inference_identity` says."""
    raw = OmegaConf.to_container(config, resolve=False)
    return {key: _item(value, config, key) for key, value in dict(raw).items()}  # type: ignore[arg-type]


def _item(raw: Any, node: DictConfig | ListConfig, key: Any) -> Any:
    if isinstance(raw, str) and "${" in raw:
        return _behind(raw, node, key)
    if isinstance(raw, dict):
        return {str(k): _item(value, node[key], k) for k, value in raw.items()}
    if isinstance(raw, list):
        return [_item(value, node[key], i) for i, value in enumerate(raw)]
    return plain(raw)


def _behind(raw: str, node: DictConfig | ListConfig, key: Any) -> Any:
    """What is behind an interpolation, if that is what counts; else the text as written."""
    names = _REFERENCE.findall(raw)
    only_references = "${" not in _REFERENCE.sub("", raw)
    if not only_references or any(is_secret_key(name.rpartition(".")[2]) for name in names):
        return raw
    try:
        value = node[key]
    except OmegaConfBaseException:
        return raw
    if isinstance(value, (DictConfig, ListConfig)):
        target = OmegaConf.to_container(value, resolve=False)
        pairs = target.items() if isinstance(target, dict) else enumerate(target or [])
        items = {k: _item(inner, value, k) for k, inner in pairs}
        return (
            {str(k): v for k, v in items.items()} if isinstance(target, dict) else [*items.values()]
        )
    return raw if isinstance(value, str) and ("/" in value or "\\" in value) else plain(value)


def this_test_set(config: DictConfig, written: dict[str, Any]) -> dict[str, Any]:
    """What counts of the ``dataset`` block: the organizer, the preprocessor, this set's entry."""
    block = written.get("dataset")
    if not isinstance(block, dict):
        return {}
    kept = {key: block[key] for key in ("_target_", "preprocessor") if block.get(key) is not None}
    entries = config.dataset.get("test") or []
    for entry, as_text in zip(entries, block.get("test") or [], strict=False):
        if entry.get("name") == config.get("test_set"):
            kept["test"] = as_text
    return kept


def _model_files(config: DictConfig) -> dict[str, str]:
    """Size and time of the files that the model's block names, by their key."""
    try:
        model = OmegaConf.to_container(config.get("model") or OmegaConf.create({}), resolve=True)
    except OmegaConfBaseException:
        return {}
    return file_stamps(model)


def builds_its_own_way(provider: type) -> bool:
    """Whether a provider's class may read any key of the config."""
    names = ("build_dataset", "build_model", "build_env_local", "build_worker_setup_fn")
    return any(getattr(provider, n, None) is not getattr(InferenceProvider, n) for n in names)
