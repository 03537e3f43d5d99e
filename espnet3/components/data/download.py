"""Downloading many files: each is checked, resumed where it stopped, and named when it fails."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from espnet3.components.data.fetch import Retries, fetch
from espnet3.components.data.file_runs import ResultGone, run_over_files
from espnet3.errors import ConfigError
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.engine import durable
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.results import read_results

STEP = "download"
_HEX_DIGITS = {"sha256": 64, "md5": 32}


@dataclass(frozen=True)
class Target:
    """One file to be fetched.

    Attributes:
        url: ``http(s)://``, ``file://``, or the path of a file.
        path: Where it goes, below ``out_dir``; by default the last part of the URL.
        sha256: Its checksum in hexadecimal digits, if known.
        md5: Likewise.
        size: Bytes, if known.
    """

    url: str
    path: str = ""
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None

    def checked(self) -> Target:
        """Return it with a path.

        Raises:
            ConfigError: The path leaves the directory, or a checksum cannot be one.
        """
        path = self.path or _last_part(self.url)
        parts = PurePosixPath(path).parts
        if not parts or os.path.isabs(path) or ".." in parts:
            raise ConfigError(f"{self.url}: path {path!r} is none below the directory")
        for kind, n_digits in _HEX_DIGITS.items():
            digest = getattr(self, kind)
            if digest and not re.fullmatch(f"[0-9a-fA-F]{{{n_digits}}}", digest):
                raise ConfigError(f"{path}: {kind} is {n_digits} hexadecimal digits: {digest!r}")
        return Target(self.url, str(PurePosixPath(*parts)), self.sha256, self.md5, self.size)


def download(
    targets: Iterable[Target | str],
    out_dir: str | os.PathLike[str],
    *,
    retries: Retries | None = None,
) -> list[Path]:
    """Fetch files, each under a temporary name until it is whole and its checksum is right.

    It runs where `set_parallel` or a session says: as many files at a time as workers, one by
    default, which is polite to a server. Half a file is gone on with, if the server can do that and
    still has the same file. What is already there with the right size and checksum is kept.

    Args:
        targets: What to fetch, or plain URLs.
        out_dir: Where to; the run is kept in ``run/download``.
        retries: How often and how patiently a request is repeated.

    Returns:
        The files, in the order of the targets.

    Raises:
        ConfigError: A target cannot be one, or two have the same path.
        RunFailed: Some could not be fetched; the others are there.
    """
    out = Path(out_dir).absolute()
    given = [(t if isinstance(t, Target) else Target(t)).checked() for t in targets]
    paths = [out / target.path for target in given]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ConfigError(f"{twice}: two targets have this path")
    items = [[t.path, t.sha256, t.md5, t.size] for t in given]
    provider = DownloadProvider(out, {t.path: t.url for t in given}, retries)
    runner = DownloadRunner(provider, output_dir=out / "run", shard_subdir=STEP)
    run_over_files(runner, items)
    return paths


class DownloadProvider(EnvironmentProvider):
    """What `DownloadRunner` needs.

    Args:
        out_dir: Where files go.
        urls: By path below it.
        retries: How patient it is.
    """

    def __init__(
        self, out_dir: str | os.PathLike[str], urls: Mapping[str, str], retries: Retries | None
    ) -> None:
        super().__init__({"output_dir": str(Path(out_dir).absolute())})
        self.urls, self.retries = dict(urls), retries or Retries()

    def build_env_local(self) -> dict[str, Any]:
        """Return ``out_dir`` (absolute), ``urls`` and ``retries``."""
        out = Path(self.config["output_dir"])
        return {"out_dir": out, "urls": self.urls, "retries": self.retries}


class DownloadRunner(BaseRunner):
    """Fetches ``[path, sha256, md5, size]`` items; see `download`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name_of = lambda item: str(item[0])

    @staticmethod
    def forward(
        idx: Sequence[Any], out_dir: Path, urls: Mapping[str, str], retries: Retries
    ) -> dict[str, Any]:
        """Fetch one file.

        Raises:
            DataError: It could not be fetched, or is not what was announced.
        """
        path, sha256, md5, size = idx
        checksums = {"sha256": sha256, "md5": md5}
        known = {kind: digest.lower() for kind, digest in checksums.items() if digest}
        target = out_dir / path
        fetch(urls[path], target, known, size, retries)
        durable.fsync_path(target)
        durable.fsync_path(target.parent)
        return {"path": path, "bytes": target.stat().st_size}

    def merge(self, shard_dirs: list[Path]) -> list[dict[str, Any]]:
        """Return ``path`` and ``bytes`` of each.

        Raises:
            ResultGone: A file that was fetched is not there any more.
        """
        files = read_results(shard_dirs)
        for file in files:
            path = Path(self.provider.config["output_dir"]) / file["path"]
            if not path.is_file() or path.stat().st_size != file["bytes"]:
                raise ResultGone(f"{path} was fetched, and is gone or has changed")
        return files


def _last_part(url: str) -> str:
    if "://" not in url:
        return Path(url).name
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
