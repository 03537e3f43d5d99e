"""What decides a runner's results, as plain data."""

import dataclasses
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from espnet3.parallel.hooks import RunnerHooks

PLACES = frozenset(
    {
        "parallel", "run", "hydra", "logging",
        "output_dir", "inference_dir", "exp_dir", "exp_tag", "stats_dir", "log_dir", "recipe_dir",
    }
)  # fmt: skip
"""Config keys that say where things run, are logged or are put; they decide no result."""


def identity_of(
    runner: "type[RunnerHooks]", provider: Any, batch_size: int | None
) -> dict[str, Any]:
    """The identity of a run whose runner does not say it better itself.

    Values of the provider's config count as they are written, interpolations unresolved. An object
    in a config that is not plain data counts by its class alone.
    """
    config = as_written(getattr(provider, "config", None))
    identity: dict[str, Any] = {
        f"config.{key}": value for key, value in config.items() if key not in PLACES
    }
    identity["runner"] = qualified_name(runner)
    identity["provider"] = qualified_name(type(provider))
    if not runner._gives_one_per_item():
        # What is kept is one result for each batch: other batches are other results.
        identity["batch_size"] = batch_size
    return identity


def as_written(config: Any) -> dict[str, Any]:
    """A config as a plain dict, interpolations unresolved; {} if it has no keys."""
    return {str(key): plain(value) for key, value in as_mapping(config).items()}


def as_mapping(config: Any) -> Mapping[Any, Any]:
    """A config as a dict of whatever objects it holds, interpolations unresolved."""
    if "omegaconf" in sys.modules:  # else no config of its can be here
        from omegaconf import DictConfig, OmegaConf

        if isinstance(config, DictConfig):
            config = OmegaConf.to_container(config, resolve=False)
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if not isinstance(config, Mapping):
        config = getattr(config, "__dict__", {})
    return cast(Mapping[Any, Any], config)


def plain(value: Any) -> Any:
    """Plain data unchanged; paths as strings; other objects as the name of their class."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)  # of a subclass (an enum, a numpy float) the value alone
    if value is None:
        return None
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(inner) for inner in value), key=str)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, type) or callable(value):
        return qualified_name(value)
    return f"<{qualified_name(type(value))}>"


def qualified_name(thing: Any) -> str:
    """`module.name` of a class or function."""
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    module = getattr(thing, "__module__", "")
    return name if module == "__main__" else f"{module}.{name}"
