"""Which runs there are below a directory."""

import os
from pathlib import Path

from espnet3.parallel.engine.files import LEDGER, MANIFEST

_OF_A_RUN = (MANIFEST, LEDGER.format(epoch=1))
DEEPEST = 4  # levels below the directory that is given


def find_runs(directory: str | os.PathLike[str]) -> list[Path]:
    """The run directories at or below a directory, sorted: of `infer`, one for each test set.

    Args:
        directory: a run, or what holds runs, not more than four levels down.

    Raises:
        FileNotFoundError: if there is no such directory.
    """
    top = Path(directory)
    if not top.is_dir():
        raise FileNotFoundError(f"there is no directory {top}")
    found: list[Path] = []
    _search(top, DEEPEST, found)
    return sorted(found)


def _search(directory: Path, levels: int, found: list[Path]) -> None:
    below = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name in _OF_A_RUN:
                    found.append(directory)  # what is below a run belongs to it
                    return
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    below.append(entry.name)
    except OSError:  # not for us to read
        return
    if levels:
        for name in below:
            _search(directory / name, levels - 1, found)
