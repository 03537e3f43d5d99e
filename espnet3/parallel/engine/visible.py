"""Files of another host that this one may see late: what looks gone may only not be here yet."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

NETWORK = {
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "glusterfs", "afs", "9p",
    "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "fuse.beegfs", "fuse.juicefs", "wekafs", "panfs",
}  # fmt: skip
LATE = 65.0  # seconds: NFS keeps names and attributes of a directory for up to 60 s
PAUSE = 0.2

_Thing = TypeVar("_Thing")


def still_missing(
    directory: Path, missing: Sequence[_Thing], is_there: Callable[[_Thing], bool]
) -> list[_Thing]:
    """Those of `missing` that do not turn up, on a network file system, within `LATE` seconds.

    Args:
        directory: in which they should be.
        missing: what was not there at the first look.
        is_there: looks again.
    """
    left = list(missing)
    if not left or file_system(directory) not in NETWORK:
        return left
    deadline = time.monotonic() + LATE
    while True:
        with suppress(OSError):
            os.listdir(directory)  # opening it asks the server
        left = [thing for thing in left if not is_there(thing)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(PAUSE)


def file_system(path: Path) -> str:
    """Type of the file system that holds `path`, as Linux calls it; "" if unknown."""
    try:
        device = os.stat(path).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            mount, _, kind = line.partition(" - ")
            if mount.split()[2] == number:
                return kind.split()[0]
    except (OSError, IndexError):
        pass
    return ""
