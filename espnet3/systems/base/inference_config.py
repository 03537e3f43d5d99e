"""The inference config as a whole: checked before the first test set is begun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from espnet3.errors import ConfigError
from espnet3.parallel.engine.files import SHARD
from espnet3.systems.base.inference_provider import InferenceProvider
from espnet3.systems.base.inference_runner import as_keys, load_function
from espnet3.systems.base.record_writer import why_no_field_name
from espnet3.utils.artifact_formats import parse_format

PROVIDER = "espnet3.systems.base.inference_provider.InferenceProvider"
RUNNER = "espnet3.systems.base.inference_runner.InferenceRunner"


@dataclass(frozen=True)
class InferencePlan:
    """What `infer` reads from its config.

    Attributes:
        inference_dir: Above the test sets' run directories.
        test_sets: Their names, in order.
        params: What every env holds beside dataset and model.
        provider: The provider's class, and further keyword arguments for it.
        runner: Likewise.
        batch_size: Items in one call of the model; None for single items.
    """

    inference_dir: str
    test_sets: list[str]
    params: dict[str, Any]
    provider: tuple[Any, dict[str, Any]]
    runner: tuple[Any, dict[str, Any]]
    batch_size: int | None


def read_config(config: DictConfig) -> InferencePlan:
    """Check and read an inference config; ``parallel:`` and ``run:`` are left to their own check.

    Raises:
        ConfigError: With everything that is wrong, one line each.
    """
    problems: list[str] = []
    if config.get("contract") is not None:
        problems.append("contract: is not built yet; use output_fn or format_output")
    if not config.get("inference_dir"):
        problems.append("inference_dir: is not set; it is where the outputs go")
    test_sets = _test_sets(config, problems)
    params = _params(config, problems)
    batch_size = config.get("batch_size")
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        problems.append(f"batch_size: must be a positive integer or null, not {batch_size!r}")
    provider = _target(config, "provider", PROVIDER, problems)
    runner = _target(config, "runner", RUNNER, problems)
    given = provider[1].pop("params", None) or {}
    if not isinstance(given, Mapping):
        problems.append(f"provider.params: must be a block, not {given!r}")
        given = {}
    builds_model = getattr(provider[0], "build_model", None)
    if builds_model is InferenceProvider.build_model and config.get("model") is None:
        problems.append("model: is not set; it is a block whose _target_ makes the model")
    if problems:
        raise ConfigError("the inference config is wrong:\n  " + "\n  ".join(problems))
    return InferencePlan(
        str(config.inference_dir), test_sets, {**given, **params}, provider, runner, batch_size
    )


def _test_sets(config: DictConfig, problems: list[str]) -> list[str]:
    dataset = config.get("dataset")
    entries = dataset.get("test") if isinstance(dataset, DictConfig) else None
    if not isinstance(entries, ListConfig) or not entries:
        problems.append("dataset.test: must list at least one test set")
        return []
    names: list[str] = []
    for index, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, DictConfig) else None
        where = f"dataset.test[{index}].name"
        if not isinstance(name, str) or not name:
            problems.append(f"{where}: every test set needs a name: its output directory's")
        elif name in names:
            problems.append(f"{where}: two test sets have the name {name!r}")
        elif not _is_directory_name(name):
            problems.append(f"{where}: {name!r} cannot be a directory below inference_dir")
        else:
            names.append(name)
    return names


def _is_directory_name(name: str) -> bool:
    parts = name.split("/")
    # Dots only, or a run's own name, could lead out of the place or into another run.
    bad = any(part.strip(".") == "" or part.startswith(SHARD) for part in parts)
    return name.isprintable() and "\\" not in name and not bad and not PurePath(name).is_absolute()


def _params(config: DictConfig, problems: list[str]) -> dict[str, Any]:
    input_key = _plain(config, "input_key")
    if not as_keys(input_key) or not all(isinstance(k, str) and k for k in as_keys(input_key)):
        problems.append("input_key: must name the field or fields of an item that the model gets")
    output_keys = _plain(config, "output_keys")
    if output_keys is not None:
        output_keys = as_keys(output_keys)
        if not output_keys:
            problems.append("output_keys: must not be empty; leave it out to write every field")
        wrong = [why_no_field_name(key) for key in output_keys]
        problems.extend(f"output_keys: {text}" for text in wrong if text)
    idx_key = config.get("idx_key", "utt_id")
    if not isinstance(idx_key, str) or not idx_key:
        problems.append(f"idx_key: must be the name of a field, not {idx_key!r}")
    params = {
        "input_key": input_key,
        "idx_key": idx_key,
        "output_keys": output_keys,
        "output_artifacts": _artifacts(config, problems),
    }
    output_fn = config.get("output_fn")
    if output_fn:
        try:
            load_function(output_fn)
        except ConfigError as error:
            problems.append(f"output_fn: {error}")
        params["output_fn_path"] = output_fn
    return params


def _artifacts(config: DictConfig, problems: list[str]) -> dict[str, Any]:
    blocks = _plain(config, "output_artifacts") or {}
    if not isinstance(blocks, dict):
        problems.append("output_artifacts: must be a block of fields, each with type or writer")
        return {}
    for name, block in blocks.items():
        try:
            parse_format(block, f"output_artifacts.{name}")
        except ConfigError as error:
            problems.append(str(error))
    return blocks


def _target(
    config: DictConfig, key: str, default: str, problems: list[str]
) -> tuple[Any, dict[str, Any]]:
    """Return the class that a block names, and the block's other keys."""
    block = _plain(config, key) or {}
    if not isinstance(block, dict):
        problems.append(f"{key}: must be a block with a _target_, not {block!r}")
        return None, {}
    arguments = {k: v for k, v in block.items() if k not in ("_recursive_", "_convert_")}
    try:
        return load_function(arguments.pop("_target_", default)), arguments
    except ConfigError as error:
        problems.append(f"{key}._target_: {error}")
        return None, arguments


def _plain(config: DictConfig, key: str) -> Any:
    value = config.get(key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
