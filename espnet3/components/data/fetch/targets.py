"""What is to be downloaded where to, and whether that makes sense."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from espnet3.components.data.fetch.restartable import RUN
from espnet3.errors import ConfigError
from espnet3.utils.masking import is_secret_key, mask_url

PART = ".part"

_DIGITS = {"sha256": 64, "md5": 32}
# Beside what `is_secret_key` knows: those of signed URLs, which are others each time.
_SIGNATURE = re.compile(r"(?:sig|signature|expires|policy|auth|key|key-pair-id|x-(?:amz|goog)-.*)$")


@dataclass(frozen=True)
class Target:
    """One file to download.

    Attributes:
        url: http(s) or file URL, or a path.
        path: Where it goes, below the output directory.
        sha256: Of the content, in hex, if it is known.
        md5: Likewise.
        size: In bytes, if it is known.
    """

    url: str
    path: str
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None

    @property
    def source(self) -> Path | None:
        """The file that is to be copied; None for http and https."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @property
    def checksums(self) -> dict[str, str]:
        """Those that are known, by algorithm."""
        return {name: value for name in _DIGITS if (value := getattr(self, name))}

    @property
    def resource(self) -> str:
        """A digest of the URL without what in it is secret, or differs each time it is signed."""
        parts = urlsplit(self.url)
        query = [
            (key, value)
            for key, value in parse_qsl(parts.query, keep_blank_values=True)
            if not is_secret_key(key) and not _SIGNATURE.match(key.lower())
        ]
        host = parts.netloc.rpartition("@")[2]
        return _digest([parts.scheme, host, parts.path, query])

    @property
    def shown(self) -> str:
        """The URL as it may be written down."""
        return mask_url(self.url)


def as_targets(given: Iterable[Target | Mapping[str, Any]]) -> list[Target]:
    """Check targets, and write their paths and sources in one way.

    Raises:
        ConfigError: With every problem; nothing was started.
    """
    targets, problems = [], []
    for number, one in enumerate(given, start=1):
        try:
            targets.append(_target(one))
        except ConfigError as error:
            problems.append(f"target {number}: {error}")
    problems += _clashes([target.path for target in targets])
    if problems:
        shown = problems[:10] + [f"and {len(problems) - 10} more"] * (len(problems) > 10)
        raise ConfigError("the targets of download cannot be used:\n  " + "\n  ".join(shown))
    return targets


def digest_of(targets: Sequence[Target]) -> str:
    """A digest of targets in which secrets of their URLs leave no trace."""
    return _digest([asdict(target) | {"url": target.resource} for target in targets])


def _target(one: Target | Mapping[str, Any]) -> Target:
    if isinstance(one, Target):
        values = asdict(one)
    elif isinstance(one, Mapping):
        values = {str(key): value for key, value in one.items()}
    else:
        raise ConfigError(f"must be a mapping or a Target, not a {type(one).__name__}")
    known = [field.name for field in fields(Target)]
    unknown = sorted(set(values) - set(known))
    if unknown or not {"url", "path"} <= set(values):
        raise ConfigError(
            f"has {', '.join(sorted(values))}; a target has url and path, and may have "
            "sha256, md5 and size"
        )
    path = below(values["path"])
    for name, length in _DIGITS.items():
        values[name] = _checksum(name, length, values.get(name), path)
    size = values.get("size")
    if size is not None and (type(size) is not int or size < 0):
        raise ConfigError(f"{path}: size must be a number of bytes, not {size!r}")
    return Target(**values | {"url": _url(values["url"], path), "path": path})


def below(given: Any) -> str:
    """Write a path below an output directory in one way.

    Raises:
        ConfigError: It leaves the directory, is none of a file, or is where the run is kept.
    """
    text = str(given)
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or ".." in path.parts or not text.isprintable():
        raise ConfigError(f"path {text!r} is not that of a file below the output directory")
    if path.parts[0] == RUN:
        raise ConfigError(f"path {text!r}: {RUN}/ is where the run is kept; choose another")
    return str(path)


def _checksum(name: str, length: int, given: Any, path: str) -> str | None:
    if given is None:
        return None
    text = str(given).lower()
    if not re.fullmatch(rf"[0-9a-f]{{{length}}}", text):
        raise ConfigError(f"{path}: {name} must be {length} hex digits, not {given!r}")
    return text


def _url(given: Any, path: str) -> str:
    text = str(given)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{path}: {mask_url(text)} is no URL") from None
    if not parts.scheme or isinstance(given, Path):
        return Path(text).absolute().as_uri()
    if parts.scheme == "file" and host in (None, "", "localhost") and parts.path.startswith("/"):
        return urlunsplit(("file", "", parts.path, "", ""))
    if parts.scheme in ("http", "https") and host:
        return text
    raise ConfigError(f"{path}: {mask_url(text)} is none of http://, https://, file:/// and a path")


def _clashes(paths: Sequence[str]) -> list[str]:
    """What of paths cannot be there at the same time."""
    problems, all_paths, seen = [], set(paths), set()
    for path in paths:
        if path in seen:
            problems.append(f"{path} is the path of two targets")
        seen.add(path)
        for parent in PurePosixPath(path).parents:
            if str(parent) in all_paths:
                problems.append(f"{path} is below {parent}, which is a target too")
        if path + PART in all_paths:
            problems.append(f"{path + PART} is where {path} is kept while it is incomplete")
    return problems


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
