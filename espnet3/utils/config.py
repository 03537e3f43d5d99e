"""Load YAML configs: files laid over each other, ``key=value`` overrides, and ``${...}``.

A loaded config stays *as written*, interpolations included: that is what a run's identity is taken
from, and what later layers may still change. Access resolves a value; :func:`resolve` all of them.
Relative paths in values are relative to the working directory, as in ESPnet3; those inside
``${load_line:}`` and ``${config_path:}`` are relative to the file they stand in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from espnet3.errors import ConfigError
from espnet3.utils.overrides import (
    Override,
    dotted_keys,
    nearest_keys,
    parse_override,
    set_override,
    switch_backend,
)
from espnet3.utils.resolvers import register_resolvers
from espnet3.utils.yaml_layers import read_layers

_BUILT_IN = "built-in defaults"


@dataclass
class LoadedConfig:
    """A config, and which file each of its keys came from.

    Attributes:
        config: As written, unresolved.
        files: The files it was asked for, the first one lowest.
        origins: Dotted key -> file, for messages.
    """

    config: DictConfig
    files: tuple[Path, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What ``${self_name:}`` is here: the stem of the first file."""
        return self.files[0].stem if self.files else ""

    @property
    def source(self) -> str:
        """The files, for a message about the config as a whole."""
        return " + ".join(str(file) for file in self.files) or "config"

    def where(self, key: str) -> str:
        """Return ``file: key`` for a message about one key."""
        above = key
        while above and above not in self.origins:
            above = above.rpartition(".")[0]
        origin = self.origins.get(above, self.source)
        # The user's file is where a default is to be replaced.
        return f"{self.source if origin == _BUILT_IN else origin}: {key}"

    def lay_over(self, origin: str, content: Mapping[str, Any]) -> None:
        """Merge plain containers over the config; see :func:`load_config` for the rules.

        Raises:
            ConfigError: OmegaConf cannot merge the two.
        """
        switch_backend(self.config, dict(content))
        try:
            merged = OmegaConf.merge(self.config, dict(content))
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            reason = _clash(OmegaConf.to_container(self.config), dict(content)) or error
            raise ConfigError(f"{origin}: cannot be laid over what is below: {reason}") from error
        self.config = cast(DictConfig, merged)
        self.origins.update(dict.fromkeys(dotted_keys(dict(content)), origin))

    def override(self, override: Override) -> None:
        """Set one ``key=value``.

        Raises:
            ConfigError: see :func:`espnet3.utils.overrides.set_override`.
        """
        set_override(self.config, override, self.name)
        self.origins[".".join(override.parts)] = "command line"


def load_config(paths: Sequence[Path | str], overrides: Sequence[str] = ()) -> DictConfig:
    """Load the first file, lay the others over it in order, and set the overrides.

    Mappings merge, everything else is replaced. Where a file, a layer of its ``defaults`` or an
    override names another ``parallel.env`` than stands below, ``parallel.options`` from below are
    dropped, because they belong to another cluster class.

    Args:
        paths: YAML files, lowest first; each may have a ``defaults:`` list.
        overrides: ``key=value`` with a dotted key and a YAML value; ``+key=value`` sets a key that
            does not exist yet (keys under ``parallel`` and ``run`` need no ``+``).

    Returns:
        The config, unresolved.

    Raises:
        ConfigError: a file is missing or is not YAML, or an override names no key.
    """
    loaded = load_files(paths)
    for text in overrides:
        loaded.override(parse_override(text))
    return loaded.config


def load_files(
    paths: Sequence[Path | str], defaults: Mapping[str, Any] | None = None
) -> LoadedConfig:
    """Load files over each other like :func:`load_config`, keeping where each key came from.

    Args:
        paths: YAML files, lowest first.
        defaults: What lies below all of them.

    Raises:
        ConfigError: a file is missing or is not YAML.
    """
    register_resolvers()
    loaded = LoadedConfig(OmegaConf.create({}), tuple(Path(path) for path in paths))
    loaded.lay_over(_BUILT_IN, defaults or {})
    for path in loaded.files:
        for layer in read_layers(path, loaded.name):
            loaded.lay_over(layer.origin, layer.content)
    return loaded


def resolve(config: DictConfig) -> DictConfig:
    """Return a copy with every interpolation replaced by its value.

    Raises:
        ConfigError: naming every key that does not resolve or is still ``???``.
    """
    _check_resolves(config)
    resolved = copy.deepcopy(config)
    OmegaConf.resolve(resolved)
    return resolved


def resolved_container(config: DictConfig) -> dict[str, Any]:
    """Return :func:`resolve`'s values as plain dicts and lists.

    Raises:
        ConfigError: naming every key that does not resolve or is still ``???``.
    """
    _check_resolves(config)
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


def _check_resolves(config: DictConfig) -> None:
    register_resolvers()
    problems = unresolved(config)
    if problems:
        raise ConfigError("\n".join(problems))


def unresolved(
    config: DictConfig,
    where: Callable[[str], str] = str,
    keys: Iterable[str] | None = None,
) -> list[str]:
    """Return one sentence per key that does not resolve, or is still ``???``.

    Args:
        config: The config to look through.
        where: Makes the start of a sentence from a dotted key (``LoadedConfig.where``).
        keys: Only these top-level keys; all of them if left out.
    """
    return [f"{where(key)}: {problem}" for key, problem in _unresolved(config, "", config, keys)]


def _clash(below: Any, above: Any, prefix: str = "") -> str:
    """Say where two containers cannot merge, which OmegaConf does not tell; empty if nowhere."""
    if isinstance(below, dict) and isinstance(above, dict):
        found = (_clash(below[k], above[k], f"{prefix}{k}.") for k in below.keys() & above.keys())
        return next(filter(None, found), "")
    if isinstance(below, dict) and isinstance(above, list):
        return f"{prefix[:-1]} is a list here and a block of keys below"
    if isinstance(below, list) and isinstance(above, dict):
        return f"{prefix[:-1]} is a block of keys here and a list below"
    return ""


def _unresolved(
    node: DictConfig | ListConfig, prefix: str, root: DictConfig, only: Iterable[str] | None = None
) -> Iterator[tuple[str, str]]:
    keys: list[Any] = list(range(len(node))) if isinstance(node, ListConfig) else list(node.keys())
    for key in keys if only is None else [key for key in keys if key in only]:
        name = f"{prefix}.{key}" if prefix else str(key)
        if OmegaConf.is_missing(node, key):
            yield name, "??? stands for a value that you must set"
            continue
        try:
            value = node[key]
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            yield name, _reason(error, root)
            continue
        # What an interpolation points at is looked through where it stands.
        is_container = isinstance(value, (DictConfig, ListConfig))
        if is_container and not OmegaConf.is_interpolation(node, key):
            yield from _unresolved(value, name, root)


def _reason(error: Exception, root: DictConfig) -> str:
    reason = str(error).splitlines()[0]
    if isinstance(error, InterpolationKeyError):
        missing = reason.split("'")[1] if reason.count("'") >= 2 else ""
        return reason + nearest_keys(missing, [root])
    return reason
