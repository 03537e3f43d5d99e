"""Refuse to run beside PyPI's ``espnet`` >= 202611, which brings an ``espnet3`` package of its own.

Two distributions that install the same top-level package overwrite each other's files, and what
then runs is a mixture. Both orders are looked at:

- ours was installed last: ``espnet3/__init__.py`` is ours and calls this check;
- theirs was installed last: ``espnet3/__init__.py`` is theirs, and so is every module whose name
  both have. Modules that only we have are left, and nearly all of them import ``espnet3.errors``,
  which calls this check as well. Code that imports nothing but names that both have cannot be
  warned: it runs their implementation, wholly.
"""

from __future__ import annotations

import os
import sys

FIRST_CONFLICTING_RELEASE = 202611
"""The first release of ``espnet`` whose wheel carries ``espnet3``."""


def check_single_espnet3() -> None:
    """Look for a conflicting ``espnet`` distribution on ``sys.path``.

    Directory names are read instead of asking ``importlib.metadata``, whose import alone costs more
    than the rest of ``import espnet3``.

    Raises:
        ImportError: One is there.
    """
    for entry in sys.path:
        try:
            names = os.listdir(entry or os.curdir)
        except OSError:
            continue  # sys.path may name zip files and directories that do not exist
        for name in names:
            if name.startswith("espnet") and name.endswith((".dist-info", ".egg-info")):
                _check_distribution(os.path.join(entry, name), name)


def _check_distribution(path: str, name: str) -> None:
    # espnet-202611.dist-info, espnet-202611-py3.12.egg-info, or espnet.egg-info in a checkout
    project, _, version = name.rpartition(".")[0].partition("-")
    if project != "espnet":
        return  # espnet_model_zoo, espnet_tts_frontend, our own espnet3
    version = version.partition("-")[0] or _version_in(path)
    release = version.partition(".")[0]
    newer = release.isdigit() and int(release) >= FIRST_CONFLICTING_RELEASE
    if newer or "espnet3" in _read(os.path.join(path, "top_level.txt")).split():
        raise ImportError(
            "This espnet3 is an independent implementation, and PyPI's espnet >= "
            f"{FIRST_CONFLICTING_RELEASE} brings an espnet3 package of its own (espnet {version} "
            f"was found at {path}): the two cannot share an environment, so install this one into "
            "a separate environment, where ESPnet2 models work with espnet 202511."
        )


def _version_in(path: str) -> str:
    for line in _read(os.path.join(path, "PKG-INFO")).splitlines():
        if line.startswith("Version:"):
            return line.partition(":")[2].strip()
    return "of unknown version"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
