"""Packages of the extra ``data``, imported where they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from espnet3.errors import ConfigError


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
        raise ConfigError(f"{purpose} needs {name}: pip install 'espnet3[data]'") from error
