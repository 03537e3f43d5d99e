"""Packages of the extra ``data``, imported where they are needed."""

from __future__ import annotations

import importlib.util
from importlib import import_module
from typing import Any

from espnet3.errors import ConfigError

_HOW = "needs {}: pip install 'espnet3[data]'"


def why_missing(name: str) -> str:
    """What a package is needed by is to say where it is not installed; "" if it is.

    Nothing is imported.
    """
    return _HOW.format(name) if importlib.util.find_spec(name) is None else ""


def import_extra(name: str, purpose: str) -> Any:
    """Import a package of the extra ``data``.

    Args:
        name: Of the module.
        purpose: What needs it, to begin the message with.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"{purpose} {_HOW.format(name)}") from error
