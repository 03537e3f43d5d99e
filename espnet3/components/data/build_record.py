"""What a builder has made, written last: how `is_built` tells whole output from half of it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from espnet3.utils import durable

logger = logging.getLogger(__name__)

NAME = "built.json"


class BuildRecord:
    """The file ``built.json`` in a directory of built data.

    A builder clears it, makes its files, and writes it when all are there::

        record = BuildRecord(data_dir, {"sample_rate": sample_rate})
        record.clear()
        ...
        record.write([data_dir / "wav.scp", data_dir / "text"])

    and ``is_built`` returns ``record.is_complete()``. So a build that was interrupted, a file
    that has gone or was cut short since, and settings that are not those of the build are noticed.
    Files are looked at by their sizes; that their content is as it was is not guaranteed. Name
    those that the rest hangs on, such as indexes: each costs a look at the disk.

    Args:
        directory: Where the data are. Below it, files are named relative to it, so that it can be
            moved.
        made_from: What the build depends on; anything that JSON can hold.
    """

    def __init__(self, directory: str | Path, made_from: Mapping[str, Any] | None = None) -> None:
        self.directory = Path(directory)
        self.made_from: dict[str, Any] = json.loads(json.dumps(dict(made_from or {})))

    @property
    def path(self) -> Path:
        """The record's file."""
        return self.directory / NAME

    def is_complete(self) -> bool:
        """Tell whether this counts as built; if it does not though there was a build, log why."""
        problem = self.problem()
        if problem and self.path.exists():
            logger.info("%s", problem)
        return not problem

    def problem(self) -> str:
        """Why this does not count as built, in a sentence; "" if it does."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            sizes, before = dict(found["files"]), dict(found["made_from"])
        except FileNotFoundError:
            return f"{self.path} is not there: nothing was built, or a build did not end"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{self.path} cannot be read: {error}"
        for key in sorted(before.keys() | self.made_from.keys()):
            old, new = before.get(key), self.made_from.get(key)
            if old != new:
                return f"{self.directory} was built with {key}: {old!r}; now it is {new!r}"
        for name, size in sizes.items():
            problem = _changed(self.directory / name, size)
            if problem:
                return problem
        return ""

    def clear(self) -> None:
        """Let nothing count as built from now on."""
        self.path.unlink(missing_ok=True)

    def write(self, files: Iterable[str | Path]) -> None:
        """Let what is there count as built.

        Args:
            files: Absolute, or relative to the current directory.

        Raises:
            FileNotFoundError: One of them is not there; nothing is written then.
        """
        sizes = {os.path.relpath(path, self.directory): Path(path).stat().st_size for path in files}
        text = json.dumps({"made_from": self.made_from, "files": sizes}, indent=1, sort_keys=True)
        durable.replace(self.path, f"{text}\n".encode())


def _changed(path: Path, size: int) -> str:
    try:
        now = path.stat().st_size
    except OSError as error:
        return f"{path} is not there any more ({error.strerror})"
    return "" if now == size else f"{path} has {now} bytes; when it was built it had {size}"
