"""Loaded by every Dask worker process at its start."""

import ctypes
import multiprocessing
import os
import signal
from contextlib import suppress
from typing import Any

_PR_SET_PDEATHSIG = 1


def dask_setup(worker: Any) -> None:
    """Answer signals as leases need it; Dask's own worker would drop what it has in hand.

    The terminal sends Ctrl-C to the whole process group: that is for the driver to answer. SIGTERM
    is for this worker: it commits what is finished, says so to the driver, and ends. So it does at
    the signals by which schedulers warn of an end to come.
    """
    from espnet3.parallel.worker.serve import end_soon
    from espnet3.parallel.worker.stack import DUMP_SIGNAL

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(DUMP_SIGNAL, signal.SIG_IGN)  # answered while there is a log to write to
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU):
        signal.signal(number, end_soon)
    _die_with_parent()
    worker.http_server.stop()  # whoever can reach it could see what runs


def _die_with_parent() -> None:
    """Let the kernel end this process when the one that started it is gone.

    Dask's worker sees that by itself, but not while C code holds the GIL, which may be for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    with suppress(OSError, AttributeError):  # no Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent.pid:  # it was gone before
        os._exit(128 + signal.SIGKILL)
