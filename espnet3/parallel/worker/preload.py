"""Loaded by every Dask worker process at its start."""

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Answer signals as leases need it; Dask's own worker would drop what it has in hand.

    The terminal sends Ctrl-C to the whole process group: that is for the driver to answer. SIGTERM
    is for this worker: it commits what is finished, says so to the driver, and ends. So it does at
    the signals by which schedulers warn of an end to come.
    """
    from espnet3.parallel.worker.serve import end_soon

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU):
        signal.signal(number, end_soon)
