"""What a launch logs: short lines on the console, and a full log per stage beside its outputs."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from espnet3.errors import ConfigError
from espnet3.utils.masking import mask_argument, mask_secrets

logger = logging.getLogger(__name__)

_CONSOLE_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_FILE_FORMAT = "%(asctime)s %(levelname)s %(name)s:%(lineno)d %(message)s"
_PACKAGES = ("dask", "distributed", "numpy", "omegaconf")


@contextmanager
def console_log(level: int = logging.INFO) -> Iterator[None]:
    """Write log records of ``level`` and above to standard error while the context is open."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_CONSOLE_FORMAT, "%H:%M:%S"))
    with _attached(handler, level):
        yield


@contextmanager
def stage_log(path: Path, header: str) -> Iterator[None]:
    """Append everything logged at INFO and above to ``path`` while the context is open.

    An exception that leaves the context is written there with its traceback, and goes on.

    Args:
        path: The file; its directory is made.
        header: Text put in front, as :func:`stage_header` makes it.

    Raises:
        ConfigError: the file cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(header)
        handler = _StageFile(path, mode="a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(f"{path}: the stage's log cannot be written: {error}") from error
    handler.setFormatter(logging.Formatter(_FILE_FORMAT))
    try:
        with _attached(handler, logging.INFO):
            try:
                yield
            except BaseException as error:
                _write_traceback(handler, error)
                raise
    finally:
        if handler.refused is not None:
            logger.warning("%s is not complete: %s", path, handler.refused.strerror)


class _StageFile(logging.FileHandler):
    """A log on a disk that may be full: what the stage has to say about that must be seen."""

    refused: OSError | None = None
    """Why something could not be written."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self.refused = self.refused or error
        else:
            super().handleError(record)

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            self.refused = self.refused or error


def stage_header(
    stage: str,
    command: Sequence[str],
    configs: Mapping[str, Any],
    revision: str | None = None,
) -> str:
    """Return what a stage's log begins with: when, where, which command, versions and configs.

    Args:
        stage: The stage.
        command: The command line as words; secrets in overrides are masked.
        configs: Role -> plain containers, resolved; secrets are masked.
        revision: The recipe's git revision, if it has one.
    """
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    lines = [
        f"{stage}",
        f"date: {datetime.now().astimezone().isoformat(timespec='seconds')}",
        f"host: {socket.gethostname()}, pid {os.getpid()}, in {Path.cwd()}",
        f"command: {shlex.join(mask_argument(word) for word in command)}",
        f"versions: {versions}",
    ]
    if revision:
        lines.append(f"recipe revision: {revision}")
    text = yaml.safe_dump(mask_secrets(dict(configs)), sort_keys=False, allow_unicode=True)
    lines += ["configs:", *(f"  {line}" for line in text.splitlines())]
    return "".join(f"# {line}\n" for line in lines)


def git_revision(folder: Path) -> str | None:
    """Return the git commit of ``folder`` (``-dirty`` if files have changed), None if unknown."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        run = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() or None


@contextmanager
def _attached(handler: logging.Handler, level: int) -> Iterator[None]:
    handler.setLevel(level)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(min(level, before) if before else level)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
        handler.close()


def _write_traceback(handler: logging.Handler, error: BaseException) -> None:
    # To this file alone: the console gets one sentence about it.
    info = (type(error), error, error.__traceback__)
    handler.handle(
        logger.makeRecord(logger.name, logging.ERROR, __file__, 0, "stopped by", (), info)
    )


def _versions() -> dict[str, str]:
    from espnet3 import __version__

    versions = {"espnet3": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions
