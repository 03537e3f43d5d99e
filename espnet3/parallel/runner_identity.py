"""What decides a runner's results, as plain data."""

import dataclasses
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from espnet3.parallel.engine.identity import FILES, LONGEST_PATH, leaves, stamp
from espnet3.parallel.modules_by_path import written_name

if TYPE_CHECKING:
    from espnet3.parallel.hooks import RunnerHooks

PLACES = frozenset(
    {
        "parallel", "run", "hydra", "logging",
        "output_dir", "inference_dir", "exp_dir", "exp_tag", "stats_dir", "log_dir", "recipe_dir",
    }
)  # fmt: skip
"""Config keys that say where things run, are logged or are put; they decide no result."""

_REFERENCE = re.compile(r"\$\{[^:{}]*\}")

MOST_FILES = 100
"""So many values of a config are looked up as paths; those in lists come last."""


def identity_of(
    runner: "type[RunnerHooks]", provider: Any, batch_size: int | None, run_dir: Path | None
) -> dict[str, Any]:
    """The identity of a run whose runner does not say it better itself.

    Values of the provider's config count as they are written, interpolations unresolved. An object
    in a config that is not plain data counts by its class alone. Files that it names count by
    name, size and time.

    Args:
        runner: its class.
        provider: its provider.
        batch_size: its batch size.
        run_dir: the run directory, if there is one yet.
    """
    config = getattr(provider, "config", None)
    kept = {str(k): v for k, v in as_mapping(config).items() if str(k) not in PLACES}
    identity: dict[str, Any] = {f"config.{key}": plain(value) for key, value in kept.items()}
    identity |= _file_stamps(config, kept, run_dir)
    identity["runner"] = qualified_name(runner)
    identity["provider"] = qualified_name(type(provider))
    if not runner._gives_one_per_item():
        # What is kept is one result for each batch: other batches are other results.
        identity["batch_size"] = batch_size
    return identity


def _file_stamps(config: Any, kept: Mapping[str, Any], run_dir: Path | None) -> dict[str, str]:
    """Name, size and time of each file that a config names, by `FILES` and where it is named.

    A value counts if it has a slash or a dot and is the path of a regular file, relative to the
    working directory or absolute; interpolations are resolved. Not those of a place (`PLACES`, at
    any depth), nor what is in the run's own directory, nor more than the beginning of a long list.
    Of directories nothing is known: they may be large, and the run may write there.

    Args:
        config: to resolve interpolations in.
        kept: what counts of it, interpolations unresolved.
        run_dir: the run directory, if there is one.
    """
    own = None if run_dir is None else os.path.join(os.path.abspath(run_dir), "")
    stamps: dict[str, str] = {}
    paths = sorted(_possible_paths(config, kept), key=lambda named: named[0].count("["))
    for where, path in paths[:MOST_FILES]:
        said = stamp(path)
        if said and not (own and os.path.abspath(path).startswith(own)):
            stamps[FILES + where] = said
    return stamps


def _possible_paths(config: Any, kept: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where in a config something stands that may be a path, and that."""
    for where, leaf in leaves(_shortened(kept)):
        text = os.fspath(leaf) if isinstance(leaf, os.PathLike) else leaf
        if not isinstance(text, str) or not PLACES.isdisjoint(re.split(r"[.\[]", where)):
            continue
        if _REFERENCE.fullmatch(text):  # what it refers to counts where that stands
            continue
        if "${" in text:
            text = _resolved(config, where)
        if 0 < len(text) < LONGEST_PATH and "\n" not in text and ("/" in text or "." in text):
            yield where, text


def _shortened(value: Any) -> Any:
    """A config with the beginning of each list in it."""
    if isinstance(value, Mapping):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shortened(inner) for inner in value[:MOST_FILES]]
    return value


def _resolved(config: Any, where: str) -> str:
    """What is behind an interpolation; "" if that is no text, or cannot be told."""
    if "omegaconf" not in sys.modules:
        return ""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        value = OmegaConf.select(config, where) if isinstance(config, DictConfig) else None
    except OmegaConfBaseException:
        return ""
    return value if isinstance(value, str) else ""


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
    module = written_name(getattr(thing, "__module__", None) or "")
    return name if module == "__main__" else f"{module}.{name}"
