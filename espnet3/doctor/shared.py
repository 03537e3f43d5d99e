"""Whether driver and worker see the same files: what either of them does there, and how it went."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from espnet3.doctor.finding import Finding, ok, problem, warning
from espnet3.utils import durable

PATIENCE = 60.0
"""Seconds that a shared disk may take to show a new file: NFS keeps what it knows for so long."""

LATE = 5.0
"""Seconds after which it is worth a word."""

FROM_DRIVER, FROM_WORKER, LOCK = "from_driver", "from_worker", "held_by_driver"
FIRST, SECOND = b"first\n", b"second\n"
_CHECK = "shared directory"
_NOT_SHARED = (
    "keep runs on a disk that the driver and all nodes see under the same path; on Kubernetes, "
    "that is parallel.options.volumes"
)


@dataclass(frozen=True)
class Visit:
    """What a worker found in the driver's directory, and did there.

    Attributes:
        waited: seconds until it saw the driver's file; None if it did not.
        refused: why it could not write, fsync and rename a file of its own; "" if it could.
        lock: whether it was refused the driver's lock; None if files cannot be locked there.
        host: the worker's.
    """

    waited: float | None
    refused: str
    lock: bool | None
    host: str


def prepare(place: Path) -> Callable[[], None]:
    """Put there what a worker is to find; what is returned lets the lock go again."""
    durable.replace(place / FROM_DRIVER, FIRST)
    file = (place / LOCK).open("wb")
    with suppress(OSError):  # told by another check
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file.close


def visit(place: str) -> Visit:
    """Called on the worker."""
    directory = Path(place)
    waited = await_content(place, FROM_DRIVER, FIRST)
    refused = ""
    try:
        durable.replace(directory / FROM_WORKER, FIRST)
    except OSError as error:
        refused = str(error)
    return Visit(waited, refused, _is_held(directory / LOCK), os.uname().nodename)


def await_content(place: str, name: str, content: bytes) -> float | None:
    """Wait until a file has a content; seconds that it took, None if it has not come to that."""
    began = time.monotonic()
    while True:
        try:
            if Path(place, name).read_bytes() == content:
                return time.monotonic() - began
        except OSError:
            pass
        if time.monotonic() - began > PATIENCE:
            return None
        time.sleep(0.05)


def compare(place: Path, seen: Visit, await_there: Callable[[str, bytes], float | None]) -> Finding:
    """Check what the worker saw and did against what is here.

    Args:
        place: the directory.
        seen: what the worker says.
        await_there: has the worker wait for a file to have a content.
    """
    if seen.waited is None:
        said = f"the worker on {seen.host} does not see a file that the driver wrote in {place}"
        return problem(_CHECK, said, _NOT_SHARED)
    if seen.refused:
        how = "let the worker's user write there; a container may run as another one"
        return problem(_CHECK, f"the worker on {seen.host} cannot write: {seen.refused}", how)
    waits = [seen.waited]
    back = await_content(str(place), FROM_WORKER, FIRST)
    if back is None:
        said = f"the driver does not see a file that the worker on {seen.host} wrote in {place}"
        return problem(_CHECK, said, _NOT_SHARED)
    durable.replace(place / FROM_DRIVER, SECOND)
    again = await_there(FROM_DRIVER, SECOND)
    if again is None:
        said = f"the worker on {seen.host} goes on seeing a file that the driver has replaced"
        how = "mount the disk with attribute caching of less than a minute (NFS: `actimeo`)"
        return problem(_CHECK, said, how)
    longest = max(*waits, back, again)
    said = f"driver and worker see each other's files and renames after {longest:.1f} s at most"
    if longest > LATE:
        how = "runs wait for it; NFS's `actimeo` is a few seconds at best"
        return warning(_CHECK, said, how)
    return ok(_CHECK, said)


def locks(seen: Visit) -> Finding:
    """Say whether a lock of the driver's keeps another host out; it need not."""
    if seen.lock:
        return ok("locks between hosts", f"a lock of the driver holds for {seen.host}")
    said = "a lock of the driver is not seen there"
    return ok("locks between hosts", f"{said}; heartbeats keep drivers on several hosts apart")


def _is_held(path: Path) -> bool | None:
    try:
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in (errno.EACCES, errno.EAGAIN) else None
    return False
