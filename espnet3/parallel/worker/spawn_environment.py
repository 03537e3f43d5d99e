"""The variables that Dask sets in this process for the workers that it spawns, taken back after.

They would stay: the next cluster's workers would begin with the threads and the log of this one's.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_OF_DASK = "__DASK_PARENT_PID"  # it sets this one, too
_before: dict[str, str | None] = {}
"""What variables were before, of all that are set while some process is being spawned."""
_spawning = 0


@contextmanager
def taken_back(variables: Mapping[str, str]) -> Iterator[None]:
    """Take variables back, when the last of those that are being spawned at once has them.

    Two clusters that spawn at one moment see each other's.
    """
    global _spawning
    for name in (*variables, _OF_DASK):
        _before.setdefault(name, os.environ.get(name))
    _spawning += 1
    try:
        yield
    finally:
        _spawning -= 1
        if not _spawning:
            for name, value in _before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            _before.clear()
