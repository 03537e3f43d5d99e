"""``key=value`` overrides of a config: reading them, and setting them where they are allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from espnet3.errors import ConfigError
from espnet3.utils.masking import mask_argument
from espnet3.utils.resolvers import bind_to_file

_OVERRIDE = re.compile(
    r"(?P<add>\+?)(?P<key>[A-Za-z_][\w-]*(?:\.[\w-]+|\[\d+\])*)=(?P<value>.*)", re.DOTALL
)
# Whoever reads these blocks refuses unknown keys, so a misspelt one cannot go unnoticed there and
# needs no + to be set.
CHECKED_BLOCKS = ("parallel", "run")


@dataclass(frozen=True)
class Override:
    """One ``[+]key=value``.

    Attributes:
        key: Dotted; list items by their number (``dataset.test.0.name``, or ``test[0]``).
        value: Typed as YAML reads it; interpolations unresolved.
        add: Whether a key that does not exist may be set.
        text: The override as an error may show it, secrets masked.
    """

    key: str
    value: Any
    add: bool
    text: str

    @property
    def parts(self) -> list[str]:
        """The key's components."""
        return self.key.replace("[", ".").replace("]", "").split(".")


def is_override(argument: str) -> bool:
    """Return whether a command-line word reads as an override; a path with ``=`` in it does not."""
    return _OVERRIDE.fullmatch(argument) is not None and not Path(argument).exists()


def parse_override(text: str) -> Override:
    """Read ``[+]key=value``.

    Raises:
        ConfigError: the word has no such form, or the value is not YAML.
    """
    shown = mask_argument(text)
    match = _OVERRIDE.fullmatch(text)
    if match is None:
        raise ConfigError(f"override {shown!r}: expected key=value or +key=value")
    try:
        # OmegaConf reads the value, so that it gets the type it would have in a file.
        dotlist = OmegaConf.from_dotlist([f"value={match['value']}"])
        value = OmegaConf.to_container(dotlist, resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"override {shown!r}: the value is not valid YAML: {error}") from error
    plain = value["value"] if isinstance(value, dict) else None
    return Override(match["key"], plain, bool(match["add"]), shown)


def has_key(config: DictConfig, override: Override) -> bool:
    """Return whether an override names a key of ``config``, or one of a block checked elsewhere."""
    parts = override.parts
    if len(parts) > 1 and parts[0] in CHECKED_BLOCKS and parts[0] in config:
        return True
    try:
        _existing(OmegaConf.to_container(config, resolve=False), parts)
    except KeyError:
        return False
    return True


def set_override(config: DictConfig, override: Override, self_name: str) -> None:
    """Set one override in ``config``.

    A mapping is merged into what is there; everything else replaces it. Another ``parallel.env``
    empties ``parallel.options``, as a config laid over does.

    Args:
        config: Changed in place.
        override: What to set.
        self_name: What ``${self_name:}`` becomes in the value; relative paths in resolvers are
            relative to the working directory.

    Raises:
        ConfigError: the key does not exist and the override has no ``+``, or cannot be set.
    """
    if not override.add and not has_key(config, override):
        raise ConfigError(
            f"override {override.text!r}: no such key{nearest_keys(override.key, [config])}; "
            f"to add it, write +{override.text}"
        )
    value = bind_to_file(override.value, Path.cwd(), self_name)
    if override.key == "parallel.env":
        switch_backend(config, {"parallel": {"env": value}})
    try:
        OmegaConf.update(config, ".".join(override.parts), value, merge=True, force_add=True)
    except (OmegaConfBaseException, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"override {override.text!r}: cannot be set: {error}") from error


def switch_backend(below: DictConfig, layer: dict[str, Any]) -> None:
    """Drop ``parallel.options`` from ``below`` where ``layer`` names another ``parallel.env``.

    Options belong to one cluster class, so those of one backend mean nothing to the next.
    """
    block = layer.get("parallel")
    if not isinstance(block, dict) or "env" not in block:
        return
    try:
        under = OmegaConf.select(below, "parallel")
    except OmegaConfBaseException:
        return  # a broken interpolation, reported when the config is checked
    if not isinstance(under, DictConfig):
        return
    plain = OmegaConf.to_container(under, resolve=False)
    if isinstance(plain, dict) and plain.get("env", "local") != block["env"]:
        below["parallel"] = {key: value for key, value in plain.items() if key != "options"}


def nearest_keys(key: str, configs: Iterable[DictConfig | ListConfig]) -> str:
    """Return a hint such as ``" (did you mean model.beam_size?)"``, empty if nothing is near."""
    known: dict[str, None] = {}
    for config in configs:
        known.update(dict.fromkeys(dotted_keys(OmegaConf.to_container(config, resolve=False))))
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    last = key.rpartition(".")[2]
    near += [name for name in known if name.rpartition(".")[2] == last and name not in near][:3]
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def dotted_keys(container: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of everything in plain containers, blocks before what they hold."""
    if isinstance(container, dict):
        items: Iterable[tuple[Any, Any]] = container.items()
    elif isinstance(container, list):
        items = enumerate(container)
    else:
        return
    for key, child in items:
        name = f"{prefix}.{key}" if prefix else str(key)
        yield name
        yield from dotted_keys(child, name)


def _existing(node: Any, parts: list[str]) -> Any:
    """Return what stands at ``parts``; KeyError where nothing does."""
    for part in parts:
        if isinstance(node, list):
            node = dict(enumerate(node))
        if not isinstance(node, dict):
            raise KeyError(part)
        # Compared as text: YAML keys, like list indices, may be numbers.
        node = {str(key): child for key, child in node.items()}[part]
    return node
