"""Whether runs can be kept where they are to lie: writing, fsync, rename, locks, room."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espnet3.doctor.finding import Finding, ok, problem, warning
from espnet3.doctor.machine import size
from espnet3.utils import durable

LEAST_ROOM = 1 << 30
"""Bytes of free space below which it is worth a word."""

SLOW_COMMIT = 1.0
"""Seconds for one small file: a commit has a few."""

_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")


@contextmanager
def scratch_in(run_dir: Path) -> Iterator[Path]:
    """A directory of our own in `run_dir`, or where that is to be made; it is removed at the end.

    Raises:
        OSError: if it cannot be made.
    """
    scratch = existing(run_dir) / f".espnet3-doctor.{os.urandom(6).hex()}"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def existing(path: Path) -> Path:
    """The directory itself, or the nearest one above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.is_dir())


def look(scratch: Path) -> list[Finding]:
    """Check what runs do with files, in a directory on the disk where they are to lie."""
    return [_room(scratch), _commit(scratch), _lock(scratch / "lock")]


def cannot_be_made(run_dir: Path, error: OSError) -> Finding:
    """What there is to say where not even a directory can be made."""
    how = "have it made writable, or choose another inference_dir (exp_dir)"
    seen = f"{existing(run_dir)}: cannot be written to: {error.strerror}"
    return problem("directory of runs", seen, how)


def _room(scratch: Path) -> Finding:
    free, kind = shutil.disk_usage(scratch).free, _file_system(scratch)
    files = os.statvfs(scratch)
    seen = f"{scratch.parent} ({kind}), {size(free)} free"
    if files.f_files and not files.f_favail:
        return problem("directory of runs", f"{seen}, and no inode", "remove files there")
    if free < LEAST_ROOM:
        return warning("directory of runs", seen, "make room there before a big run")
    if kind in _IN_MEMORY:
        return warning("directory of runs", seen, "it is in memory, and gone when the machine is")
    return ok("directory of runs", seen)


def _commit(scratch: Path) -> Finding:
    check = "fsync and rename"
    path, began = scratch / "commit", time.monotonic()
    try:
        for data in (b"before", b"after"):
            durable.replace(path, data)
        durable.write_new(scratch / "new", b"new")
        seconds = (time.monotonic() - began) / 3
        if path.read_bytes() != b"after":
            seen = "a file that was replaced still has its old content"
            return problem(check, seen, "keep runs on another disk: this one would lose results")
    except OSError as error:
        seen = f"a file cannot be written, fsynced and renamed: {error}"
        return problem(check, seen, "keep runs on another disk")
    seen = f"{seconds * 1000:.1f} ms for a small file"
    if seconds > SLOW_COMMIT:
        return warning(check, seen, "raise run.lease_seconds, so that workers commit less often")
    return ok(check, seen)


def _lock(path: Path) -> Finding:
    with path.open("wb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return warning(
                "locks",
                f"files there cannot be locked: {error.strerror}",
                "none is needed: a run whose driver died on this host is then taken over after "
                "minutes instead of at once",
            )
    return ok("locks", "files there can be locked")


def _file_system(path: Path) -> str:
    """The kind of file system, as `mount` calls it."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return "file system unknown"
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    # mount id, parent, major:minor, root, mount point, options, [fields], -, kind, ...
    found = [line.split(" - ")[1].split()[0] for line in lines if line.split()[2] == number]
    return found[-1] if found else "file system unknown"
