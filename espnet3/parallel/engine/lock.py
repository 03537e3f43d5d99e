"""One owner per run directory.

The owner holds an open-file-description lock on `<run>/lock` for as long as its process lives; the
kernel lets go of it at any death, so a dead owner is taken over at once. On other hosts, where that
lock may not be seen, a heartbeat in the file tells that it lives (see `heartbeat`); who has seen it
stand still for long enough takes over. Whoever takes over from an owner that may not be dead
replaces the file, so that a former owner's lock, heartbeat and release concern another one.

Epochs (see `ledger`) make an error of judgement harmless.
"""

import errno
import fcntl
import logging
import os
import struct
from pathlib import Path
from typing import Self

from espnet3.errors import OwnershipLost, RunInUse
from espnet3.parallel.engine.files import LOCK
from espnet3.parallel.engine.heartbeat import Heartbeat
from espnet3.parallel.engine.owner import (
    LONGEST_RECORD,
    Owner,
    decode,
    describe_process,
    encode,
    has_pid_here,
    in_use,
    is_dead,
    is_on_this_host,
    is_this_process,
    who,
    without_beat,
)
from espnet3.parallel.engine.stop_request import heed_request, remove_request
from espnet3.parallel.engine.watch import GRACE, Watch

logger = logging.getLogger(__name__)

# struct flock of 64-bit Linux: type, whence, start, length (0: all of it), pid (0 for this kind).
_LOCK, _UNLOCK = (
    struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0) for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK)
)
_OURS, _THEIRS, _UNKNOWN = "ours", "another's", "not to be had on this file system"


class OwnerLock:
    """The lock of one run directory, held from `acquire` to `release`.

    Attributes:
        owner: what the lock file says of this process.
    """

    def __init__(self, fd: int, path: Path, owner: Owner) -> None:
        self.owner = owner
        self._fd = fd
        self._path = path
        self._pid = os.getpid()
        remove_request(path.parent)  # it was for whoever had the run before
        self._heartbeat = Heartbeat(fd, str(path), lambda: heed_request(path.parent, owner))

    @classmethod
    def acquire(cls, run_dir: Path, overwrite: bool = False) -> Self:
        """Become the owner of `run_dir`.

        If the owner is on another host, this waits until it can be told whether that one lives,
        and says so.

        Args:
            run_dir: an existing directory.
            overwrite: take over at once, from a living owner too: one that is suspended, or on
                another host. It stops when it finds that out. (Not from this very process.)

        Raises:
            RunInUse: if another driver owns the run; the message says which one, since when, and
                how to look at it.
            OSError: if the lock file cannot be opened or written.
        """
        path = run_dir / LOCK
        here = describe_process()
        watch = Watch(run_dir)
        while True:
            seen = _look(path)
            fd = None
            try:
                wait = _patience(seen, here, watch, overwrite)
                if watch.stood(seen.owner, here, wait) >= wait:
                    _check_named(seen, here, run_dir, overwrite)
                    fd = _take(path, seen, here, overwrite)
            finally:
                if fd != seen.fd:
                    os.close(seen.fd)
            if fd is not None:
                return cls(fd, path, here)
            watch.pause(seen.owner, wait)

    def check(self) -> None:
        """Make sure that no other driver has taken the run over, as one may from a suspended owner.

        To be asked before anything is replaced while no epoch tells the two apart: at the start.

        Raises:
            OwnershipLost: if one has; it may have ended since.
        """
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)  # by its name, see `_look`
        try:
            in_place = os.path.samestat(os.fstat(fd), os.fstat(self._fd))
            found = without_beat(decode(os.pread(fd, LONGEST_RECORD, 0)))
        finally:
            os.close(fd)
        if not in_place or found != self.owner:
            taker = f"({who(found)})" if found else "(it has ended)"
            raise OwnershipLost(
                f"{self._path.parent} was taken over by another driver {taker} while this one was "
                "starting; this one stops without touching it"
            )

    def release(self) -> None:
        """Let go; the lock file stays, empty."""
        self._heartbeat.stop()
        if os.getpid() == self._pid:  # not in a child that user code forked
            try:
                os.ftruncate(self._fd, 0)
            except OSError as error:  # what counts is on disk; another host may have to wait
                logger.warning("the lock file cannot be emptied: %s", error)
            _set_lock(self._fd, _UNLOCK)  # closing is not enough where a child has the file, too
        os.close(self._fd)


class _Seen:
    """The lock file at one moment; `hold` says whose the kernel's lock on it is."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.hold = _set_lock(fd, _LOCK)
        self.data = os.pread(fd, LONGEST_RECORD, 0)
        self.owner = decode(self.data)


def _look(path: Path) -> _Seen:
    """Open the lock file, by its name each time: only so does NFS show what is new in it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        return _Seen(fd)
    except BaseException:
        os.close(fd)
        raise


def _set_lock(fd: int, what: bytes) -> str:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, what)
    except OSError as error:
        return _THEIRS if error.errno in (errno.EACCES, errno.EAGAIN) else _UNKNOWN
    return _OURS


def _patience(seen: _Seen, here: Owner, watch: Watch, overwrite: bool) -> float:
    """Seconds for which the file must stay as it is before this process may take it.

    Raises:
        RunInUse: if its owner lives.
    """
    owner, busy = seen.owner, seen.hold is _THEIRS
    if not owner:
        return GRACE if busy else 0.0
    if is_this_process(owner, here) and seen.hold is not _OURS:
        raise RunInUse(in_use(watch.run_dir, owner, here))
    if overwrite:
        return 0.0
    if not is_on_this_host(owner, here):
        return watch.patience()
    if seen.hold is _OURS:
        return 0.0
    if is_dead(owner, here):
        return GRACE if busy else 0.0  # a child of its has the lock, or one that starts just now
    if seen.hold is _UNKNOWN and not has_pid_here(owner, here):
        return watch.patience()
    raise RunInUse(in_use(watch.run_dir, owner, here))


def _check_named(seen: _Seen, here: Owner, run_dir: Path, overwrite: bool) -> None:
    if not seen.owner and seen.hold is _THEIRS and not overwrite:
        raise RunInUse(in_use(run_dir, seen.owner, here))


def _take(path: Path, seen: _Seen, here: Owner, overwrite: bool) -> int | None:
    """The file descriptor of the lock, now ours, or None if the file has changed meanwhile."""
    ours = seen.hold is _OURS
    if ours and (not seen.owner or is_on_this_host(seen.owner, here)):
        if not _is_as_seen(path, seen):
            return None
        _write(seen.fd, here)
        return seen.fd
    fd = _replace(path, seen, here)
    if fd is not None and seen.hold is _UNKNOWN:
        logger.warning("%s cannot be locked; epochs keep drivers apart", path)
    if fd is not None and seen.owner and not is_dead(seen.owner, here):
        why = "as allow_overwrite_lock says" if overwrite else "presumed dead"
        logger.warning("%s: taken over from %s, %s", path.parent, who(seen.owner), why)
    return fd


def _replace(path: Path, seen: _Seen, here: Owner) -> int | None:
    """Put a file of our own in the place of the one that was seen."""
    new = path.with_name(f".lock.{os.urandom(6).hex()}.tmp")
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        _set_lock(fd, _LOCK)
        _write(fd, here)
        if _is_as_seen(path, seen):
            os.rename(new, path)
            return fd
    except FileNotFoundError:  # an owner that was just done tidied up
        pass
    except BaseException:
        _discard(new, fd)
        raise
    _discard(new, fd)
    return None


def _discard(path: Path, fd: int) -> None:
    os.close(fd)
    path.unlink(missing_ok=True)


def _is_as_seen(path: Path, seen: _Seen) -> bool:
    try:
        in_place = os.path.samestat(os.fstat(seen.fd), path.stat())
    except OSError:
        return False
    return in_place and os.pread(seen.fd, LONGEST_RECORD, 0) == seen.data


def _write(fd: int, here: Owner) -> None:
    # The rest of a longer record stays until it is cut off; nobody reads behind the first line.
    record = encode(here)
    os.pwrite(fd, record, 0)
    os.ftruncate(fd, len(record))
