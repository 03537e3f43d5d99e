"""The in-flight marker: which unit a worker had begun when it died, and what it was reading ahead.

A store into a memory-mapped file costs some tens of nanoseconds and survives any death of the
process (SIGKILL, SIGSEGV, `os._exit`), as the kernel keeps the page. It does not survive the death
of the machine, and on NFS another host may see it late.
"""

import mmap
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from espnet3.parallel.engine.disk import explained

DRIVER = "driver"  # the worker's name where leases run in the driver itself
READERS = 4  # threads that may read ahead, each with a cell of its own
READING = 2  # the first of their cells
_FORMAT = f"{READING + READERS}Q"
_SIZE = struct.calcsize(_FORMAT)


@dataclass(frozen=True)
class InFlight:
    """What a worker was at when it died.

    Attributes:
        position: the first of the unit that it had begun last.
        reading: the first positions of the units whose items it was reading ahead just then.
    """

    position: int
    reading: tuple[int, ...] = ()

    @property
    def suspects(self) -> list[int]:
        """First positions of all units that may have ended it, in order."""
        return sorted({self.position, *self.reading})


class Marker:
    """Written by one worker process: its lease, the unit in hand, and what is read ahead.

    `cells` are position + 1 of the unit in hand, number + 1 of the lease, and for each thread that
    reads ahead position + 1 of the unit that it reads for; 0 is none. Nothing is read ahead while
    there is no unit in hand.
    """

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
        self.end_lease()
        self.cells[1] = lease + 1

    def end_lease(self) -> None:
        """Leave the lease."""
        for i in range(len(self.cells)):
            self.cells[i] = 0

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
    found = read_marker(path, lease)
    return None if found is None else found.position


def read_marker(path: Path, lease: int | None = None) -> InFlight | None:
    """What a worker was at; None if it had no unit in hand, or nobody knows.

    Args:
        path: of its marker.
        lease: only if it was in this lease.
    """
    try:
        position, number, *reading = struct.unpack(_FORMAT, path.read_bytes())
    except (OSError, struct.error):
        return None
    if not position or lease not in (None, number - 1):
        return None
    return InFlight(position - 1, tuple(r - 1 for r in reading if r))


def take_driver_marker(run_dir: Path) -> InFlight | None:
    """What a former driver had in hand when it died, if it worked in process; clears all markers.

    Workers of a dead driver died of that, so theirs say nothing.
    """
    found = read_marker(marker_path(run_dir, DRIVER))
    for path in (run_dir / "logs").glob("inflight.*"):
        path.unlink(missing_ok=True)
    return found
