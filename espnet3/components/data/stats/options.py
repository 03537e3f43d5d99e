"""What a training config says about statistics: its ``collect_stats`` block, checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from espnet3.components.instantiate import as_config
from espnet3.errors import ConfigError
from espnet3.utils.extras import why_missing

SPLITS = ("train", "valid")
_KEYS = ("collect_feats", "batch_size", "write_collected_feats")


@dataclass(frozen=True)
class StatsOptions:
    """The ``collect_stats`` block.

    Attributes:
        collect_feats: What gives the features of one item: a dotted name, or a block with
            ``_target_``. None: the method of that name of ``model``.
        batch_size: Items in one call of the model; None for single ones.
        write_collected_feats: Whether the features are written as well.
    """

    collect_feats: Any = None
    batch_size: int | None = None
    write_collected_feats: bool = False


def read_options(config: Any) -> StatsOptions:
    """Read the options of a config.

    Raises:
        ConfigError: With everything that is wrong, one line each.
    """
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(as_config(config), resolve=True)
    problems = [f"{key}: {text}" for key, text in why_no_stats(plain)]
    if problems:
        raise ConfigError("statistics cannot be collected:\n  " + "\n  ".join(problems))
    return StatsOptions(**(plain.get("collect_stats") or {}))


def why_no_stats(plain: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield dotted keys of a resolved config, and what is wrong with each; nothing is imported."""
    yield from _data_problems(plain.get("dataset"))
    block = plain.get("collect_stats") or {}
    if not isinstance(block, Mapping):
        yield "collect_stats", f"is a block with {', '.join(_KEYS)}, not {block!r}"
        return
    for key in block:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1, cutoff=0.0)[0]
            yield f"collect_stats.{key}", f"unknown key; did you mean {near!r}?"
    size = block.get("batch_size")
    if size is not None and (type(size) is not int or size < 1):
        yield "collect_stats.batch_size", f"must be a positive integer or null, not {size!r}"
    write = block.get("write_collected_feats", False)
    if type(write) is not bool:
        yield "collect_stats.write_collected_feats", f"must be true or false, not {write!r}"
    elif write and (missing := why_missing("kaldiio")):
        yield "collect_stats.write_collected_feats", missing
    function = block.get("collect_feats")
    if function is None:
        yield from _model_problems(plain)
        return
    name = function.get("_target_") if isinstance(function, Mapping) else function
    if not isinstance(name, str):
        yield "collect_stats.collect_feats", "must be a dotted name, or a block with _target_"
    if size is not None:
        text = "is for a model's collect_feats; a function gets single items: leave it out"
        yield "collect_stats.batch_size", text


def splits_of(config: Any) -> list[str]:
    """The splits that a checked config has."""
    return [split for split in SPLITS if config["dataset"].get(split)]


def build_function(block: Any) -> Callable[[Any], Any]:
    """The function that ``collect_feats`` stands for.

    A class is instantiated with the block's other keys; to a function these are further keyword
    arguments.

    Raises:
        ConfigError: It cannot be imported, or what it makes cannot be called.
    """
    from hydra.utils import get_object, instantiate

    name = block if isinstance(block, str) else block["_target_"]
    try:
        target = get_object(name)
    except Exception as error:  # whatever importing the module raises
        raise ConfigError(f"collect_stats.collect_feats: {name}: {error}") from error
    if isinstance(target, type):
        function = target() if isinstance(block, str) else instantiate(block)
    else:
        function = target if isinstance(block, str) else instantiate(block, _partial_=True)
    if isinstance(function, partial) and not function.keywords and not function.args:
        function = function.func
    if not callable(function):
        raise ConfigError(f"collect_stats.collect_feats: {name} cannot be called with an item")
    return function  # type: ignore[no-any-return]


def _data_problems(dataset: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(dataset, Mapping):
        yield "dataset", "is not set; it names the data sets, under dataset.train and dataset.valid"
        return
    for split in SPLITS:
        entries = dataset.get(split)
        if entries is not None and not isinstance(entries, list):
            yield f"dataset.{split}", "must be a list of data sets"
    if not dataset.get("train"):
        yield "dataset.train", "must list at least one data set"


def _model_problems(plain: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model = plain.get("model")
    if plain.get("task"):
        yield "task", "is not supported; give model a _target_, or name collect_stats.collect_feats"
    elif model is None:
        yield (
            "collect_stats.collect_feats",
            "is not set, and there is no model either; name a function that gives the features",
        )
    elif not isinstance(model, Mapping) or not isinstance(model.get("_target_"), str):
        yield "model", "must be a block whose _target_ makes the model"
