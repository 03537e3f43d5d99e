"""One owner per run directory, on one host.

The owner holds an open-file-description lock on `<run>/lock` for as long as its process lives; the
kernel lets go of it at any death, so a dead owner is taken over at once. Processes that the owner
forked may keep it for longer: a lock whose owner is dead counts as free. Epochs (see `ledger`) make
an error of judgement harmless.
"""

import errno
import fcntl
import json
import logging
import os
import shlex
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from espnet3.errors import RunInUse
from espnet3.utils.masking import mask_argument

logger = logging.getLogger(__name__)

# struct flock of 64-bit Linux: type, whence, start, length (0: all of it), pid (0 for this kind).
_WHOLE_FILE = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def describe_process() -> dict[str, Any]:
    """Host, pid, start and command of this process, for people who meet its lock."""
    return {
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "ticks": _start_ticks(os.getpid()),
        "boot": _boot_id(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(mask_argument(a) for a in sys.argv)[:500],
    }


class OwnerLock:
    """The lock of one run directory, held from `acquire` to `release`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def acquire(cls, run_dir: Path, overwrite: bool = False) -> Self:
        """Become the owner of `run_dir`.

        Args:
            run_dir: an existing directory.
            overwrite: do not be stopped by a lock that another host left behind.

        Raises:
            RunInUse: if another driver owns the run, or may own it from another host; the message
                says which one, since when, and how to look at it.
        """
        fd = os.open(run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _take(fd, run_dir, overwrite)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd)

    def release(self) -> None:
        """Let go; the lock file stays, empty."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def _take(fd: int, run_dir: Path, overwrite: bool) -> None:
    owner = _read(fd)
    here = describe_process()
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            logger.warning("%s cannot be locked (%s); epochs keep drivers apart", run_dir, error)
        elif not _is_dead(owner, here):
            raise RunInUse(_in_use(run_dir, owner)) from error
    if owner and owner.get("host") != here["host"] and not overwrite:
        raise RunInUse(
            f"{_in_use(run_dir, owner)} If that process is gone, set "
            "`run: {allow_overwrite_lock: true}` to take over."
        )
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(here).encode() + b"\n", 0)


def _is_dead(owner: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether a process of this host certainly ended; its pid may have been given to another."""
    if owner.get("host") != here["host"] or not isinstance(owner.get("pid"), int):
        return False
    if owner.get("boot") != here["boot"]:
        return True
    return _start_ticks(owner["pid"]) != owner.get("ticks")


def _start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read(fd: int) -> Mapping[str, Any]:
    try:
        owner = json.loads(os.pread(fd, 10_000, 0))
        return owner if isinstance(owner, dict) else {}
    except ValueError:
        return {}


def _in_use(run_dir: Path, owner: Mapping[str, Any]) -> str:
    if not owner:
        return f"{run_dir} is owned by another driver."
    if (owner.get("pid"), owner.get("host")) == (os.getpid(), os.uname().nodename):
        return f"{run_dir} is in use by another runner call of this process."
    return (
        f"{run_dir} is owned by pid {owner.get('pid')} on {owner.get('host')} since "
        f"{owner.get('started')} ({owner.get('command')}). Look at it with "
        f"`ps -p {owner.get('pid')} -f` on that host, or wait for its end."
    )
