"""What of a config decides results: its values, the files it names, the code of its data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from espnet3.components.data.dataset_module import local_module, module_name
from espnet3.parallel.code_identity import Starts
from espnet3.parallel.engine.identity import file_stamps
from espnet3.parallel.runner_identity import plain
from espnet3.utils.masking import is_secret_key

_BUILD = (
    "build_dataset", "build_model", "build_features", "build_env_local", "build_worker_setup_fn",
)  # fmt: skip
_BUILDER = "DatasetBuilder"
_REFERENCE = re.compile(r"\$\{\s*\.*([A-Za-z_][\w.-]*)\s*\}")


def as_written(config: DictConfig) -> dict[str, Any]:
    """A config as plain data, interpolations as far as their value decides.

    Values count as they are written: ``${exp_dir}/model.pth`` stays the same when ``exp_dir``
    moves. But ``beam_size: ${beam}`` counts by the number behind it, as does every interpolation of
    a number or a word; not those that run a resolver, lead to a path, or go by a secret's name.
    """
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


def builds_its_own_way(provider: type, base: type) -> bool:
    """Whether a provider's class may read any key of the config, as `base` does not.

    Args:
        provider: The class.
        base: `InferenceProvider` or `CollectStatsProvider`.
    """
    return any(getattr(provider, n, None) is not getattr(base, n, None) for n in _BUILD)


def part_of_dataset(
    config: DictConfig, written: dict[str, Any], split: str, name: Any = None
) -> dict[str, Any]:
    """What counts of the ``dataset`` block for one split: organizer, preprocessor, its entries.

    Args:
        config: The config.
        written: The same `as_written`.
        split: ``train``, ``valid`` or ``test``.
        name: The one entry that counts, which then stands there without a list; None for all.
    """
    block = written.get("dataset")
    if not isinstance(block, dict):
        return {}
    kept = {key: block[key] for key in ("_target_", "preprocessor") if block.get(key) is not None}
    entries = block.get(split) or []
    if name is None:
        return {**kept, split: entries}
    for entry, as_text in zip(config.dataset.get(split) or [], entries, strict=False):
        if entry.get("name") == name:
            kept[split] = as_text
    return kept


def block_files(config: DictConfig, name: str) -> dict[str, str]:
    """Size and time of the files that a block of a config names, by their key."""
    try:
        block = OmegaConf.to_container(config.get(name) or OmegaConf.create({}), resolve=True)
    except OmegaConfBaseException:
        return {}
    return file_stamps(block)


def add_dataset_code(starts: Starts, config: DictConfig, entries: Iterable[Any]) -> None:
    """Add the modules of data sets; a recipe's own ``dataset/`` is called ``dataset``.

    What they name ``DatasetBuilder`` makes the data and reads none: it decides no result.

    Args:
        starts: Where to add them.
        config: Says where the recipe is.
        entries: Of the ``dataset`` block, as plain data.
    """
    for entry in entries:
        _add_one(starts, config, entry)


def _add_one(starts: Starts, config: DictConfig, entry: Any) -> None:
    data_src = entry.get("data_src") if isinstance(entry, Mapping) else None
    if isinstance(data_src, str) and data_src.strip():
        name = module_name(data_src.strip())
        starts.names.append(name)
        starts.but[name] = _BUILDER
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
            starts.but[name] = _BUILDER
