"""`durations.f32`: the seconds of audio of every position, where they are known.

For people alone: the dealer has them from the caller. 4 bytes each, little-endian, not fsynced.
"""

import logging
import os
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path

from espnet3.parallel.engine.files import DURATIONS

logger = logging.getLogger(__name__)

MOST = 4_000_000  # positions of a run for which they are kept


def keep_durations(run_dir: Path, durations: Sequence[float]) -> None:
    """Write them beside the run, unless they stand there; a disk that refuses costs these alone."""
    if len(durations) > MOST:
        return
    data = array("f", durations)
    if sys.byteorder == "big":
        data.byteswap()
    path, content = run_dir / DURATIONS, data.tobytes()
    temporary = run_dir / f".{DURATIONS}.{os.getpid()}.tmp"
    try:
        if path.exists() and path.stat().st_size == len(content) and path.read_bytes() == content:
            return
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        logger.warning("%s/%s is not written: %s", run_dir, DURATIONS, error.strerror)


def read_durations(run_dir: Path) -> "array[float] | None":
    """Seconds of every position, as 4-byte floats; None where they were not known."""
    try:
        data = (run_dir / DURATIONS).read_bytes()
    except OSError:
        return None
    durations = array("f")
    durations.frombytes(data[: len(data) // 4 * 4])
    if sys.byteorder == "big":
        durations.byteswap()
    return durations
