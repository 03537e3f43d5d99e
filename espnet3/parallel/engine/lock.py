"""One owner per run directory, on one host.

The owner holds a POSIX lock on `<run>/lock` for as long as its process lives; the kernel lets go
of it at any death, so a dead owner is taken over at once and a pid that was given to another
process means nothing. Epochs (see `ledger`) make an error of judgement harmless.
"""

import errno
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from espnet3.errors import RunInUse
from espnet3.utils.masking import mask_argument

logger = logging.getLogger(__name__)

# A POSIX lock belongs to the process: it cannot tell two threads of one process apart, and closing
# any descriptor of the file drops it. So this process keeps its own list.
_held: set[Path] = set()
_guard = threading.Lock()


def describe_process() -> dict[str, Any]:
    """Host, pid, start and command of this process, for people who meet its lock."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(mask_argument(a) for a in sys.argv)[:500],
    }


class OwnerLock:
    """The lock of one run directory, held from `acquire` to `release`."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
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
        path = (run_dir / "lock").resolve()
        with _guard:
            if path in _held:
                raise RunInUse(f"{run_dir} is in use by another runner call of this process")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                _take(fd, run_dir, overwrite)
            except BaseException:
                os.close(fd)
                raise
            _held.add(path)
        return cls(path, fd)

    def release(self) -> None:
        """Let go; the lock file stays, empty."""
        with _guard:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            _held.discard(self._path)


def _take(fd: int, run_dir: Path, overwrite: bool) -> None:
    owner = _read(fd)
    here = describe_process()
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise RunInUse(_in_use(run_dir, owner)) from error
        logger.warning(
            "%s cannot be locked (%s); only epochs keep two drivers apart", run_dir, error
        )
    if owner and owner.get("host") != here["host"] and not overwrite:
        raise RunInUse(
            f"{_in_use(run_dir, owner)} If that process is gone, set "
            "`run: {allow_overwrite_lock: true}` to take over."
        )
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(here).encode() + b"\n", 0)


def _read(fd: int) -> Mapping[str, Any]:
    try:
        owner = json.loads(os.pread(fd, 10_000, 0))
        return owner if isinstance(owner, dict) else {}
    except ValueError:
        return {}


def _in_use(run_dir: Path, owner: Mapping[str, Any]) -> str:
    if not owner:
        return f"{run_dir} is owned by another driver."
    return (
        f"{run_dir} is owned by pid {owner.get('pid')} on {owner.get('host')} since "
        f"{owner.get('started')} ({owner.get('command')}). Look at it with "
        f"`ps -p {owner.get('pid')} -f` on that host, or wait for its end."
    )
