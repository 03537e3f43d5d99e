"""Is this the same run? Hashes of what decides the results, and what changed when they differ."""

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LONGEST_PATH = 4096
FILES = "config_files."
"""Begins the keys of files that the config names; what follows is where in it that stands."""


def hash_identity(identity: Mapping[str, Any], salt: str) -> dict[str, str]:
    """A salted hash for every key, so that secrets in a config leave no trace.

    Raises:
        TypeError: if a value is not plain data.
    """
    return {key: _hash(value, salt) for key, value in sorted(identity.items())}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line per changed key, `key: old -> new`."""
    before, after = dict(leaves(old)), dict(leaves(new))
    return [
        f"{key}: {before.get(key, '(not set)')} -> {after.get(key, '(not set)')}"
        for key in sorted(before.keys() | after.keys())
        if (key in before, before.get(key)) != (key in after, after.get(key))
    ]


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of plain data that holds no others, and where it stands: `model.files[0]`."""
    if isinstance(value, Mapping) and (value or not prefix):
        for key, inner in value.items():
            yield from leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{prefix}[{index}]")
    else:
        yield prefix, value


def file_stamps(value: Any) -> dict[str, str]:
    """Name, size and modification time of every file that plain data names.

    Of a directory, its own files are taken. The keys tell where in `value` the path stands, not
    the path: the same file under another root is the same file.
    """
    stamps: dict[str, str] = {}
    for key, leaf in leaves(value):
        if not isinstance(leaf, str) or not 0 < len(leaf) < LONGEST_PATH or "\0" in leaf:
            continue
        path = Path(leaf)
        try:
            if said := stamp(path):
                stamps[key] = said
            elif path.is_dir() and any(sep in leaf for sep in "/\\"):
                files = ((child.name, stamp(child)) for child in path.iterdir())
                stamps |= {f"{key}/{name}": said for name, said in files if said}
        except OSError:
            continue
    return stamps


def stamp(path: str | Path) -> str:
    """Name, size and modification time of a file; "" if there is no regular file of that name."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: no text that a path can be
        return ""
    if not stat.S_ISREG(found.st_mode):
        return ""
    seconds, nanoseconds = divmod(found.st_mtime_ns, 10**9)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    name = os.path.basename(path)
    return f"{name}, {found.st_size} bytes, modified {when}.{nanoseconds:09d} UTC"


def config_key(file_key: str) -> str:
    """The identity's key of the config value in which a file is named."""
    return "config." + re.split(r"[.\[]", file_key.removeprefix(FILES), maxsplit=1)[0]


def _hash(value: Any, salt: str) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(f"{salt} {text}".encode()).hexdigest()[:16]
