"""Filling in templates, and writing what comes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from espnet3.errors import ConfigError

EVERY = "every"
"""The template of what is the same in all recipes."""

_WORD = re.compile(r"@([a-z_]+)@")


def filled(template: str, words: Mapping[str, str]) -> dict[str, str]:
    """The files of a template and of `EVERY`, with their words filled in.

    Args:
        template: A directory of ``templates/``.
        words: What stands for ``@name@``. A word that is not among them stays as it is.

    Returns:
        Path below the recipe -> text, by path.
    """
    found: dict[str, str] = {}
    for one in (EVERY, template):
        _collect(resources.files("espnet3.skeleton") / "templates" / one, "", found)
    return {
        path: _WORD.sub(lambda match: words.get(match[1], match[0]), found[path])
        for path in sorted(found)
    }


def _collect(directory: Traversable, prefix: str, found: dict[str, str]) -> None:
    for entry in directory.iterdir():
        if entry.is_dir():
            if entry.name != "__pycache__":
                _collect(entry, f"{prefix}{entry.name}/", found)
        else:
            found[prefix + entry.name] = entry.read_text(encoding="utf-8")


def write_files(files: Mapping[str, str], out: Path, overwrite: bool) -> list[Path]:
    """Write files below a directory, which is made.

    Args:
        files: Path below it -> text.
        out: The directory.
        overwrite: Whether files that are there may be replaced.

    Returns:
        What was written.

    Raises:
        ConfigError: One of the files is there already and may not be replaced; then none is
            written.
        OSError: One cannot be written.
    """
    there = [name for name in files if (out / name).exists() or (out / name).is_symlink()]
    if there and not overwrite:
        raise ConfigError(
            f"{out} has {', '.join(there)} already; name another directory with --out, or replace "
            "them with --overwrite"
        )
    written = []
    for name, text in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
