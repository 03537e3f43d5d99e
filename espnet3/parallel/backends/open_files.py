"""How many files a driver may have open: each worker's connections are some.

Without room for them Dask drops connections and says nothing, workers never come, and the driver
cannot open its own files any more.
"""

import logging
import os
import resource

from espnet3.errors import ConfigError
from espnet3.parallel.config_check import LOCAL

logger = logging.getLogger(__name__)

SPARE = 256  # for the run's own files, the recipe's, and connections that are being made
# Measured: 3 connections of a worker and its nanny; `ssh` has a pipe more. A local worker's nanny
# is in this process: 4 connections and 7 pipes.
FOR_A_WORKER, FOR_A_LOCAL_WORKER = 5, 12


def allow_open_files(env: str, n_workers: int) -> None:
    """Raise this process's soft limit of open files to what so many more workers need.

    It is often 1024, for the sake of old programs, with a hard limit that is far above.

    Raises:
        ConfigError: if the hard limit, which only an administrator raises, is below that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken, each = needs(env)
    needed = taken + each * n_workers
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        enough_for = max(0, hard - taken) // each
        raise ConfigError(
            f"parallel.n_workers: {n_workers} workers may need {needed} open files in the driver, "
            f"but its hard limit is {hard} (`ulimit -Hn`), enough for {enough_for} workers; "
            "use no more than that, or have the limit raised"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    logger.debug("the limit of open files is %d now, it was %d", needed, soft)


def needs(env: str) -> tuple[int, int]:
    """Open files that this process needs without any worker, and how many more for each."""
    each = FOR_A_LOCAL_WORKER if env in LOCAL else FOR_A_WORKER
    return len(os.listdir("/dev/fd")) + SPARE, each
