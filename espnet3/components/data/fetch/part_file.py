"""The beginning of a file that is on its way, which one process at a time may write."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path

from espnet3.errors import DataError
from espnet3.parallel.worker.unfinished import sleep

logger = logging.getLogger(__name__)


@contextmanager
def opened_alone(path: Path, patience: float) -> Iterator[BufferedRandom]:
    """Open a file for this process alone, where the file system can do that.

    It is made if it is not there, and removed if it is empty at the end and was not renamed.

    Args:
        path: The file, which may be renamed while it is open.
        patience: Seconds to wait for another process.

    Raises:
        DataError: Another process has it for longer.
    """
    deadline = time.monotonic() + patience
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        if _lock(file) and _is_still(path, file):
            break
        file.close()
        if time.monotonic() > deadline:
            raise DataError(f"{path} is being written by another process; run again when it ended")
        sleep(0.1)
    with file:
        try:
            yield file
        finally:
            if not os.fstat(file.fileno()).st_size and _is_still(path, file):
                path.unlink()


def _lock(file: BufferedRandom) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.debug("a file system without locks: %s", error)
    return True


def _is_still(path: Path, file: BufferedRandom) -> bool:
    """Whether a file has its name still: it may have got its final one while we waited."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
