"""Writing files so that what the ledger names survives a power cut.

On a local file system, data that was fsynced and a name whose directory was fsynced are on disk.
On NFS the server decides; a rename is atomic there, but another host may see it seconds later.
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MANY_FILES = 32


def fsync_path(path: str | Path) -> None:
    """Flush one file or directory to disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_tree(directory: str | Path) -> None:
    """Flush every file below `directory`, and every directory in it, `directory` included."""
    files: list[str | Path] = []
    directories: list[str | Path] = []
    for root, _, names in os.walk(directory):
        directories.append(root)
        paths = (os.path.join(root, name) for name in names)
        files += [path for path in paths if stat.S_ISREG(os.lstat(path).st_mode)]
    fsync_paths(files)
    for path in reversed(directories):
        fsync_path(path)


def fsync_paths(files: Sequence[str | Path]) -> None:
    """Flush files (or directories) to disk, many at a time."""
    if len(files) > MANY_FILES:
        from concurrent.futures import ThreadPoolExecutor

        # Journalling file systems commit what is asked for at the same time together.
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(fsync_path, files))
    else:
        for path in files:
            fsync_path(path)


def write_new(path: Path, data: bytes) -> None:
    """Create `path` with `data` in one step: it is absent or whole, never half.

    Raises:
        FileExistsError: if `path` exists already.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _write_and_fsync(temporary, data)
    try:
        _link_or_create(temporary, path, data)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_path(path.parent)


def replace(path: Path, data: bytes, check: Callable[[], None] | None = None) -> None:
    """Write `data` to `path` in one step, over what was there before.

    Args:
        path: absent or a file.
        data: its new content.
        check: called when the data are on disk, just before they take the name; what it raises
            leaves there what was there before.
    """
    with replacing(path, check) as f:
        f.write(data)
    fsync_path(path.parent)


@contextmanager
def replacing(path: Path, check: Callable[[], None] | None = None) -> Iterator[BinaryIO]:
    """Write a file in a `with` block; at its end it takes the name `path`, on disk and in one step.

    After an exception, one of `check` just before the new name included, there is what was there
    before. The name is durable only once the directory
    has been flushed too, which is the caller's to do.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb", buffering=1 << 20) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        if check is not None:
            check()
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_and_fsync(path: Path, data: bytes) -> None:
    with path.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def _link_or_create(temporary: Path, path: Path, data: bytes) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # No hard links here (some FUSE and FAT mounts). Exclusive creation still keeps two
        # owners apart; a crash in the middle leaves a torn file, which readers tell by its end.
        with path.open("xb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
