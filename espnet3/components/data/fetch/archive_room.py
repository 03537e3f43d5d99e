"""How much an archive may hold: what the disk has room for, and no absurd lot for its size."""

from __future__ import annotations

import shutil
from pathlib import Path

from espnet3.components.data.fetch.archive_members import declared_size
from espnet3.errors import DataError

MAX_RATIO = 200.0
"""Content over archive, in bytes. Recordings and texts reach 20; bombs begin at 1000."""
HARMLESS = 1 << 30
"""Bytes of content that are no bomb at any ratio."""
STEP = 1 << 26
"""Bytes after which the disk is asked again: a server of files may be asked for each time."""


class Room:
    """What there is for the content of one archive.

    A zip that has too much is refused before anything is written, by what its directory says. A
    compressed tar has no directory: it is refused at the first member that goes too far. Neither
    format gives more bytes for a member than it has said.

    Args:
        archive: The file.
        directory: Is there; on the disk that is written to.
        max_ratio: Content over archive, in bytes.

    Raises:
        DataError: All that is known of the content is too much.
        OSError: The archive cannot be read.
    """

    def __init__(self, archive: Path, directory: Path, max_ratio: float) -> None:
        self._archive, self._directory = archive, directory
        self._packed, self._max_ratio = max(1, archive.stat().st_size), max_ratio
        self._taken = self._left = 0
        declared = declared_size(archive)
        self._check(declared, declared, "its content")

    def take(self, size: int, name: str) -> None:
        """Reckon with a member before it is written.

        Args:
            size: Bytes of it.
            name: What it is called in the archive.

        Raises:
            DataError: It is too much.
        """
        self._taken += size
        self._check(size, self._taken, repr(name))
        self._left -= size

    def _check(self, more: int, total: int, what: str) -> None:
        if more > self._left:
            free = shutil.disk_usage(self._directory).free
            if more > free:
                raise DataError(
                    f"{self._archive}: {what} has {_gib(more)}, and the disk of "
                    f"{self._directory.parent.parent} has room for {_gib(free)}"
                )
            self._left = min(free, STEP)
        if total > max(HARMLESS, self._max_ratio * self._packed):
            raise DataError(
                f"{self._archive}: with {what} it has {_gib(total)} in {_gib(self._packed)}, as "
                f"only a bomb has; if it may have, give extract max_ratio="
                f"{-(-total // self._packed)} or more"
            )


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.3g} GiB"
