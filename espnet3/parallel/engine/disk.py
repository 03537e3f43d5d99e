"""What the file system refuses, in words that say where it was and what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espnet3.errors import RunStopped

_ELSEWHERE = "or use another output_dir"
_WHAT_TO_DO = {
    errno.ENOSPC: "The disk is full: make room",
    errno.EDQUOT: "The quota is used up: make room, or have it raised",
    errno.EROFS: f"The disk is mounted read-only: have that changed, {_ELSEWHERE}",
    errno.EACCES: f"This user may not write there: change the permissions, {_ELSEWHERE}",
    errno.EPERM: f"This user may not write there: change the permissions, {_ELSEWHERE}",
    errno.EEXIST: f"There is a file where a directory is to be: move it away, {_ELSEWHERE}",
    errno.ENOTDIR: f"There is a file where a directory is to be: move it away, {_ELSEWHERE}",
    errno.EISDIR: f"There is a directory where a file is to be: move it away, {_ELSEWHERE}",
    errno.ENOENT: "Somebody removed or unmounted it: see that the directory is there",
    errno.ESTALE: "Somebody removed or unmounted it: see that the directory is there",
    errno.EMFILE: "This process has too many open files: raise `ulimit -n`",
    errno.ENFILE: "This machine has too many open files: end what holds them",
    errno.ENAMETOOLONG: "Use another output_dir",
}
_ANYTHING_ELSE = f"See what is wrong with that file system, {_ELSEWHERE}"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the file system's refusals in a `with` block into the error that stops a run.

    Args:
        path: what the block works on, where the system does not say.

    Raises:
        RunStopped: from the OSError.
    """
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or path
        what_to_do = _WHAT_TO_DO.get(error.errno or 0, _ANYTHING_ELSE)
        raise RunStopped(
            f"{where}: {error.strerror or error}. {what_to_do}, then run the same command again "
            "(without `resume: false`): what was committed before is kept."
        ) from error
