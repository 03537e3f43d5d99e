"""Download many files, each checked, resumed and retried on its own."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO

from espnet3.components.data.fetch.connections import Connections
from espnet3.components.data.fetch.http import HttpFetch, Patience, Version
from espnet3.components.data.fetch.part_file import opened_alone
from espnet3.components.data.fetch.restartable import RUN, Records, run_by_records
from espnet3.components.data.fetch.targets import PART, Target, as_targets, digest_of
from espnet3.errors import DataError
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.worker.unfinished import leave_if_draining
from espnet3.utils import durable
from espnet3.utils.extras import import_extra

logger = logging.getLogger(__name__)

STEP = "download"


def download(
    targets: Iterable[Target | Mapping[str, Any]],
    out_dir: str | Path,
    *,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 60.0,
    skip_failed: bool = False,
) -> list[Path]:
    """Download what is not there yet, as many files at a time as there are workers.

    A file gets its name when it is whole and has the size and checksums that its target names;
    until then it is ``<path>.part``, with which the next call goes on. One that is there already is
    left alone if it has the target's checksums (or its size, if there are none), or if a former
    call has downloaded it and it has not changed since.

    Args:
        targets: What goes where: `Target` or mappings with ``url`` (http, https, file, or a path),
            ``path`` below ``out_dir``, and ``sha256``, ``md5`` and ``size`` as far as known.
        out_dir: Holds the files, and the run in ``run/download``.
        retries: Attempts at a file after the first one that are in a row without progress.
        backoff: Seconds to wait before the second of them, doubled for each after it. A server
            that says how long to wait is obeyed.
        timeout: Seconds without a byte after which a connection is given up.
        skip_failed: Do without files that fail. ``on_error: skip`` of a config does not: a corpus
            with a hole looks like a whole one.

    Returns:
        The files, in the order of the targets; without those that were left out.

    Raises:
        ConfigError: A target cannot be used, or urllib3 is missing; nothing was started.
        RunFailed: Files failed; it names them by their paths. All others are there.
    """
    wanted = as_targets(targets)
    provider = DownloadProvider(wanted, out_dir, Patience(retries, backoff, timeout))
    runner = DownloadRunner(provider, output_dir=Path(out_dir) / RUN, shard_subdir=STEP)
    files = provider.files()
    paths = [target.path for target in wanted]
    done = run_by_records(runner, paths, files.is_recorded, skip_failed=skip_failed)
    return [Path(out_dir) / path for path in done]


class DownloadProvider(EnvironmentProvider):
    """Gives `DownloadRunner` the targets.

    Args:
        targets: As for `download`.
        out_dir: Holds the files.
        patience: How often and how long to try.
    """

    def __init__(
        self,
        targets: Iterable[Target | Mapping[str, Any]],
        out_dir: str | Path,
        patience: Patience | None = None,
    ) -> None:
        # Not in a config, which would be written down: URLs may hold secrets.
        super().__init__()
        self.targets: Sequence[Target] = as_targets(targets)
        self._arguments = (self.targets, Path(out_dir).absolute(), patience or Patience())
        if any(target.source is None for target in self.targets):
            import_extra("urllib3", "download by http")

    def build_env_local(self) -> dict[str, Any]:
        """Build ``files``, which fetches by path."""
        return {"files": self.files()}

    def files(self) -> DownloadedFiles:
        """Give what fetches a target, or tells whether it is there."""
        return DownloadedFiles(*self._arguments)


class DownloadRunner(BaseRunner):
    """Downloads targets, each named by its path; results are the paths."""

    @staticmethod
    def forward(idx: str, files: DownloadedFiles) -> str:
        """Download one file if it is not there."""
        files.fetch(idx)
        return idx

    def identity(self) -> dict[str, Any]:
        """Name the runner, and the targets by a digest without the secrets of their URLs."""
        return {**super().identity(), "targets": digest_of(self.provider.targets)}


class DownloadedFiles:
    """Targets in their directory: which are there, and how those that are not get there.

    Args:
        targets: Checked.
        out_dir: Absolute.
        patience: How often and how long to try.
    """

    def __init__(self, targets: Sequence[Target], out_dir: Path, patience: Patience) -> None:
        self.out_dir = out_dir
        self._targets = {target.path: target for target in targets}
        self._records = Records(out_dir / RUN / "downloaded")
        self._patience = patience
        self._connections = Connections(patience.timeout)

    def is_recorded(self, path: str) -> bool:
        """Tell whether a target is there as it was when it was found to be right."""
        record, target = self._records.read(path), self._targets[path]
        known = record.get("checksums", {})
        right = all(known.get(name) == value for name, value in target.checksums.items())
        same = target.checksums or target.size is not None or _is_of(record, target)
        return bool(right and same and _has_size(target, record) and self._is_as(path, record))

    def fetch(self, path: str) -> None:
        """Make sure that a target is there.

        Raises:
            DataError: It could not be had, or is not what it should be.
        """
        if self.is_recorded(path):
            return
        target, file = self._targets[path], self.out_dir / path
        if self._is_right_already(target, file):
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        part_path = file.with_name(file.name + PART)
        with opened_alone(part_path, self._patience.timeout) as part:
            if self.is_recorded(path):  # another process was at it until now
                return
            logger.info("%s: fetching %s", path, target.shown)
            resumed = self._fill(part, target)
            problem = _problem(part, target)
            if problem and resumed:
                logger.warning("%s: %s; fetching all of it again", path, problem)
                part.truncate(0)
                self._fill(part, target)
                problem = _problem(part, target)
            if problem:
                part.truncate(0)
                raise DataError(f"{path}: {target.shown}: {problem}")
            os.fsync(part.fileno())
            self._record(target, os.fstat(part.fileno()))
            os.replace(part_path, file)
            durable.fsync_path(file.parent)

    def _fill(self, part: BinaryIO, target: Target) -> bool:
        """Bring a target's content into a file; tell whether what was there was gone on with."""
        if target.source is not None:
            part.truncate(0)
            part.seek(0)
            try:
                with target.source.open("rb") as source:
                    while piece := source.read(1 << 20):
                        part.write(piece)
                        leave_if_draining()
            except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
                raise DataError(f"{target.path}: {target.source}: {error.strerror}") from None
            part.flush()
            return False
        record = self._records.read(target.path)
        version = Version()
        if _is_of(record, target):
            version = Version(**record["version"])
        else:
            part.truncate(0)
        begin = partial(self._begin, target)
        checked = bool(target.checksums)
        fetch = HttpFetch(
            target.url, self._connections, part, version, begin, self._patience, checked=checked
        )
        try:
            fetch.run()
        except DataError as error:
            raise DataError(f"{target.path}: {error}") from None
        return fetch.resumed

    def _begin(self, target: Target, version: Version) -> None:
        record = {"resource": target.resource, "url": target.shown, "version": asdict(version)}
        self._records.write(target.path, record)

    def _record(self, target: Target, stat: os.stat_result) -> None:
        # Before the file has its name: it keeps size and time when it gets it.
        old = self._records.read(target.path)
        self._records.write(
            target.path,
            {
                "resource": target.resource,
                "url": target.shown,
                "version": old["version"] if _is_of(old, target) else asdict(Version()),
                "size": stat.st_size,
                "mtime_ns": stat.st_mtime_ns,
                "checksums": target.checksums,
            },
        )

    def _is_as(self, path: str, record: dict[str, Any]) -> bool:
        try:
            stat = os.stat(self.out_dir / path)
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (record.get("size"), record.get("mtime_ns"))

    def _is_right_already(self, target: Target, file: Path) -> bool:
        """Whether a file that was not recorded is the right one; then it is recorded."""
        if not (target.checksums or target.size is not None) or not file.is_file():
            return False
        with file.open("rb") as f:
            if _problem(f, target):
                logger.info("%s is there, but not what it should be", file)
                return False
            self._record(target, os.fstat(f.fileno()))
        return True


def _is_of(record: Mapping[str, Any], target: Target) -> bool:
    return record.get("resource") == target.resource


def _has_size(target: Target, record: Mapping[str, Any]) -> bool:
    return target.size in (None, record.get("size"))


def _problem(file: BufferedIOBase, target: Target) -> str:
    """What is wrong with a target's content; "" if nothing is."""
    size = file.seek(0, os.SEEK_END)
    if target.size not in (None, size):
        return f"it has {size} bytes, not {target.size}"
    for name, expected in target.checksums.items():
        file.seek(0)
        found = hashlib.file_digest(file, name).hexdigest()
        if found != expected:
            return f"its {name} is {found}, not {expected}"
    return ""
