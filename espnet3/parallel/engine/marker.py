"""The in-flight marker: which unit a worker had begun when it died.

A store into a memory-mapped file costs some tens of nanoseconds and survives any death of the
process (SIGKILL, SIGSEGV, `os._exit`), as the kernel keeps the page. It does not survive the death
of the machine, and on NFS another host may see it late.
"""

import mmap
import os
import struct
from contextlib import suppress
from pathlib import Path

from espnet3.parallel.engine.disk import explained

DRIVER = "driver"  # the worker's name where leases run in the driver itself
_FORMAT = "QQ"
_SIZE = struct.calcsize(_FORMAT)


class Marker:
    """Written by one worker process: the lease and the first position of the unit in hand."""

    def __init__(self, path: Path) -> None:
        # The directory is the driver's to make: a worker that comes late must not make it again.
        # Written, not truncated to size: a store into a hole of a full disk is a SIGBUS.
        with explained(path):
            path.write_bytes(bytes(_SIZE))
            with path.open("r+b") as f:
                self._map = mmap.mmap(f.fileno(), _SIZE)
                self._stat = os.fstat(f.fileno())
        self._path = path
        self.cells = memoryview(self._map).cast("Q")

    def begin_lease(self, lease: int) -> None:
        """Enter a lease, with no unit begun. Then `cells[0] = position + 1` marks each unit."""
        self.cells[0] = 0
        self.cells[1] = lease + 1

    def end_lease(self) -> None:
        """Leave the lease."""
        self.cells[0] = self.cells[1] = 0

    def remove(self) -> None:
        """Remove the file, if it is still this one: a newer owner has one of the same name."""
        with suppress(OSError):
            if os.path.samestat(self._stat, self._path.stat()):
                self._path.unlink()


def marker_path(run_dir: Path, worker: str) -> Path:
    """Where the worker of that name marks the unit in hand."""
    return run_dir / "logs" / f"inflight.{worker}"


def remove_marker(path: str | Path) -> None:
    """Remove a marker, if the disk lets us; it says something only as long as it is asked."""
    with suppress(OSError):
        os.unlink(path)


def read_in_flight(path: Path, lease: int | None = None) -> int | None:
    """The position that a worker had begun last; None if none, or unknown.

    Args:
        path: of its marker.
        lease: only if it was in this lease.
    """
    try:
        position, number = struct.unpack(_FORMAT, path.read_bytes())
    except (OSError, struct.error):
        return None
    return position - 1 if position and lease in (None, number - 1) else None


def take_driver_marker(run_dir: Path) -> int | None:
    """What a former driver had in hand when it died, if it worked in process; clears all markers.

    Workers of a dead driver died of that, so theirs say nothing.
    """
    position = read_in_flight(marker_path(run_dir, DRIVER))
    for path in (run_dir / "logs").glob("inflight.*"):
        path.unlink(missing_ok=True)
    return position
