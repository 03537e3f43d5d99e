"""Read a YAML config and the files that its ``defaults:`` list names, as layers in merge order."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from espnet3.errors import ConfigError
from espnet3.utils.resolvers import bind_to_file


@dataclass(frozen=True)
class Layer:
    """The content of one file, at the place in the config where it belongs.

    Attributes:
        origin: The file, as the user would write it.
        content: Plain containers, interpolations unresolved.
    """

    origin: str
    content: dict[str, Any]


def read_layers(
    path: Path, self_name: str, package: str = "", chain: tuple[Path, ...] = ()
) -> Iterator[Layer]:
    """Yield the layers of ``path``, lowest first: its defaults, and itself where ``_self_`` stands.

    A ``defaults`` entry is ``name`` (a file beside this one, merged at the same place),
    ``group: name`` (``group/name.yaml``, under the key ``group``; a name with a slash is a path
    beside this file), ``group: null`` (nothing) or ``_self_`` (last where it is left out).

    Args:
        path: The YAML file.
        self_name: What ``${self_name:}`` becomes, in every file below this one too.
        package: The dotted key under which the content belongs; empty for the root.
        chain: The files that led here.

    Raises:
        ConfigError: a file is missing, is no YAML mapping, or names itself in its defaults.
    """
    where = path.resolve()
    if where in chain:
        loop = " -> ".join(str(file) for file in (*chain[chain.index(where) :], where))
        raise ConfigError(f"{path}: defaults: the files name each other in a circle: {loop}")
    content = read_yaml(path)
    entries = content.pop("defaults", None) or []
    own = Layer(str(path), _under(package, bind_to_file(content, path.parent, self_name)))
    own_yielded = False
    for file, group in _defaults(path, entries):
        if file is None:
            own_yielded = True
            yield own
        else:
            below = ".".join(part for part in (package, group) if part)
            yield from read_layers(file, self_name, below, (*chain, where))
    if not own_yielded:
        yield own


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, interpolations unresolved.

    Raises:
        ConfigError: naming the file and line, or the files nearest to a missing one.
    """
    try:
        loaded = OmegaConf.load(path)
        content = OmegaConf.to_container(loaded, resolve=False)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file{_neighbours(path)}") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}") from error
    except (OSError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys, this is a list")
    return {str(key): value for key, value in content.items()}


def _defaults(path: Path, entries: Any) -> Iterator[tuple[Path | None, str]]:
    """Yield (file, group) per entry; file None stands for ``_self_``."""
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: defaults: must be a list of files, not {entries!r}")
    if entries.count("_self_") > 1:
        raise ConfigError(f"{path}: defaults: _self_ stands there twice")
    for entry in entries:
        if entry == "_self_":
            yield None, ""
        elif isinstance(entry, str):
            yield _yaml_file(path, entry), ""
        elif isinstance(entry, dict):
            yield from _groups(path, entry)
        else:
            raise ConfigError(f"{path}: defaults: expected a name or group: name, not {entry!r}")


def _groups(path: Path, entry: dict[Any, Any]) -> Iterator[tuple[Path, str]]:
    for group, name in entry.items():
        if name is None:
            continue
        if not isinstance(group, str) or not isinstance(name, str) or set(group) & set("@ /"):
            raise ConfigError(
                f"{path}: defaults: {group}: {name}: only `group: name` and `group: null` are"
                " supported (no override, optional, @package, nested group or list of names)"
            )
        yield _yaml_file(path, name if "/" in name else f"{group}/{name}"), group


def _yaml_file(path: Path, name: str) -> Path:
    return path.parent / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")


def _under(package: str, content: dict[str, Any]) -> dict[str, Any]:
    for key in reversed(package.split(".") if package else []):
        content = {key: content}
    return content


def _neighbours(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" (the folder {folder} does not exist)"
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.4)
    if not near:
        near = [name for name in names if name.endswith((".yaml", ".yml"))][:5]
    return f" (in {folder} there is {', '.join(near)})" if near else f" ({folder} holds no YAML)"
