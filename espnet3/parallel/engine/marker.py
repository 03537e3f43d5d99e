"""The in-flight marker: which unit a worker had begun when it died, and what went on beside it.

A store into a memory-mapped file costs some tens of nanoseconds and survives any death of the
process (SIGKILL, SIGSEGV, `os._exit`), as the kernel keeps the page. It does not survive the death
of the machine, and on NFS another host may see it late.

Behind it stands the name of a unit, for people who look at the run: the worker has it at hand, and
nobody else may know it. It is entered now and then alone, so it may be that of an older unit.
"""

import mmap
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from espnet3.parallel.engine.disk import explained
from espnet3.parallel.engine.files import IN_FLIGHT, LOGS

DRIVER = "driver"  # the worker's name where leases run in the driver itself
READERS = 4  # threads that may read ahead, each with a cell of its own
_UNIT, _LEASE, _NAMED, WRITING, READING = range(5)  # READING is the first of their cells
_FORMAT = f"{READING + READERS}Q"
_NAME_AT = struct.calcsize(_FORMAT)
_LONGEST_NAME = 223  # bytes
_SIZE = _NAME_AT + _LONGEST_NAME + 1


@dataclass(frozen=True)
class InFlight:
    """What a worker has in hand, or had when it died.

    Attributes:
        position: the first of the unit that it had begun last.
        others: the first positions of the units whose items it was reading ahead just then, or
            whose result it was writing behind.
        name: of the item at `position`, or "#position"; "" if it was not entered.
    """

    position: int
    others: tuple[int, ...] = ()
    name: str = ""

    @property
    def suspects(self) -> list[int]:
        """First positions of all units that may have ended it, in order."""
        return sorted({self.position, *self.others})


class Marker:
    """Written by one worker process: its lease, the unit in hand, and what goes on beside it.

    `cells` are position + 1 of the unit in hand, number + 1 of the lease, position + 1 of the unit
    whose name was entered last, of that whose result is written behind, and for each thread that
    reads ahead of the one that it reads for; 0 is none. Nothing is read ahead or written behind
    while there is no unit in hand.
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
        self.cells[_LEASE] = lease + 1

    def end_lease(self) -> None:
        """Leave the lease."""
        for i in range(READING + READERS):
            self.cells[i] = 0

    def enter_name(self, position: int, name: str) -> None:
        """Say what the item at a position is called, cut to 223 bytes."""
        data = name.encode("utf-8", "surrogateescape")[:_LONGEST_NAME]
        self.cells[_NAMED] = 0  # who reads in between is not to take it for another's
        self._map[_NAME_AT : _NAME_AT + len(data) + 1] = data + b"\0"
        self.cells[_NAMED] = position + 1

    def remove(self) -> None:
        """Remove the file, if it is still this one: a newer owner has one of the same name."""
        with suppress(OSError):
            if os.path.samestat(self._stat, self._path.stat()):
                self._path.unlink()


def marker_path(run_dir: Path, worker: str) -> Path:
    """Where the worker of that name marks the unit in hand."""
    return run_dir / LOGS / f"{IN_FLIGHT}{worker}"


def remove_marker(path: str | Path) -> None:
    """Remove a marker, if the disk lets us; it says something only as long as it is asked."""
    with suppress(OSError):
        os.unlink(path)


def read_marker(path: Path, lease: int | None = None) -> InFlight | None:
    """What a worker is at; None if it has no unit in hand, or nobody knows.

    Args:
        path: of its marker.
        lease: only if it is in this lease.
    """
    try:
        data = path.read_bytes()
        unit, number, named, *others = struct.unpack_from(_FORMAT, data)
    except (OSError, struct.error):
        return None
    if not unit or lease not in (None, number - 1):
        return None
    name = data[_NAME_AT:].partition(b"\0")[0] if named == unit else b""
    beside = tuple(position - 1 for position in others if position)
    return InFlight(unit - 1, beside, name.decode("utf-8", "replace"))


def take_driver_marker(run_dir: Path) -> InFlight | None:
    """What a former driver had in hand when it died, if it worked in process; clears all markers.

    Workers of a dead driver died of that, so theirs say nothing.
    """
    found = read_marker(marker_path(run_dir, DRIVER))
    for path in (run_dir / LOGS).glob(f"{IN_FLIGHT}*"):
        path.unlink(missing_ok=True)
    return found
