"""Decode configs, ``conf/decode*.yaml``: each key with its line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet3.migrate.findings import Finding, Place, problem
from espnet3.migrate.text_files import read_text


@dataclass(frozen=True)
class DecodeSetting:
    """A key of a decode config, its value, and where it stands."""

    name: str
    value: Any
    place: Place
    text: str


def read_decode_conf(recipe: Path, name: str) -> tuple[list[DecodeSetting], list[Finding]]:
    """Read a decode config.

    Args:
        recipe: the recipe's directory.
        name: the file's name, relative to it.

    Returns:
        Its settings, and what could not be read; both are empty if there is no such file.
    """
    text, findings = read_text(recipe, name)
    if text is None:
        return [], findings
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)):
            return [], [problem(Place(name), name, "it has aliases, which are not followed here")]
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = Place(name, mark.line + 1 if mark else None)
        return [], [problem(place, name, f"it is no YAML: {str(error).splitlines()[0]}")]
    if root is None:
        return [], []
    if not isinstance(root, yaml.MappingNode) or not isinstance(values, dict):
        return [], [problem(Place(name), name, "it is no block of keys")]
    done = []
    for key, _ in root.value:
        place = Place(name, key.start_mark.line + 1)
        shown = str(key.value)
        value = values.get(shown)
        done.append(DecodeSetting(shown, value, place, f"{shown}: {value}"))
    return done, []
