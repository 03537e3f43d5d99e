"""Loaded by every Dask worker process at its start."""

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the driver.

    The terminal sends SIGINT to the whole process group; a worker that died of it would take the
    lease in hand with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
