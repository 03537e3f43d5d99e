"""The ``${...}`` resolvers of config files, and what ties them to the file they stand in."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

# One time for the whole process: a directory named with ${now:} must not change between two uses.
_STARTED = datetime.now()

_SELF_NAME = "${self_name:}"
_RELATIVE_PATH = re.compile(
    r"\$\{(?P<resolver>load_line|config_path):\s*(?P<quote>['\"]?)"
    r"(?P<path>[^,}'\"$]+?)(?P=quote)\s*(?=[,}])"
)


def load_line(path: str) -> list[str]:
    """Return the lines of a UTF-8 text file, stripped: ``token_list: ${load_line:tokens.txt}``."""
    with open(path, encoding="utf-8") as lines:
        return [line.strip() for line in lines]


def self_name(name: str = "") -> str:
    """Return ``name``; an empty one means that the config did not come through ``load_config``."""
    if not name:
        raise ValueError("${self_name:} has a meaning only in a file read by load_config")
    return name


def config_path(path: str) -> str:
    """Return ``path``, which loading has made absolute: ``${config_path:../src/notes.md}``."""
    return path


def now(pattern: str = "%Y-%m-%d_%H-%M-%S") -> str:
    """Return the time at which this process started, as ``strftime`` writes ``pattern``.

    Another process (a worker) has another time: resolve in the driver what both must agree on.
    """
    return _STARTED.strftime(pattern)


def register_resolvers() -> None:
    """Register the resolvers with OmegaConf; calling it again is harmless."""
    for resolver in (load_line, self_name, config_path, now):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def bind_to_file(value: Any, folder: Path, name: str) -> Any:
    """Return ``value`` with its resolvers bound to the file that it was read from.

    OmegaConf does not tell a resolver in which file it stands, so this happens while that is known.

    Args:
        value: A plain YAML value, containers included.
        folder: The folder to which ``load_line`` and ``config_path`` are relative.
        name: What ``${self_name:}`` becomes.

    Returns:
        A copy in which ``${self_name:}`` is replaced and relative paths are absolute. A path that
        itself holds an interpolation stays as it is, relative to the working directory.
    """
    if isinstance(value, dict):
        return {key: bind_to_file(child, folder, name) for key, child in value.items()}
    if isinstance(value, list):
        return [bind_to_file(child, folder, name) for child in value]
    if not isinstance(value, str):
        return value

    def absolute(match: re.Match[str]) -> str:
        path = os.path.abspath(folder / match["path"].strip()).replace("\\", "\\\\")
        # Quoted, because OmegaConf's grammar knows only some characters bare.
        return "${" + match["resolver"] + ":'" + path.replace("'", "\\'") + "'"

    return _RELATIVE_PATH.sub(absolute, value.replace(_SELF_NAME, name))


register_resolvers()
