"""A program without ``if __name__ == "__main__":``, whose workers would do what it does.

Worker processes of this machine begin by importing the program's main file, as all that
multiprocessing spawns do. What starts workers there would have each of them start workers of its
own.
"""

import sys

from espnet3.errors import ConfigError

UNGUARDED = 117
"""Exit status of a worker that got to where workers are started by importing the program."""

_HOW = """\
the program {program}runs what starts workers whenever it is imported, and each worker process \
imports it first. Leave imports, classes and functions where they are, and put what it runs (the \
calls of set_parallel, of runners, of launch) under a guard:

    if __name__ == "__main__":
        ..."""


def explanation() -> str:
    """What is wrong with the program, and what to write."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return _HOW.format(program=f"{path} " if path else "")


def check_is_no_import() -> None:
    """See that this process is not on its way through the program's main file as a worker.

    Raises:
        SystemExit: with `UNGUARDED` if it is a worker; its nanny tells the driver, which explains.
        ConfigError: if it is another process that multiprocessing spawned.
    """
    spawning = sys.modules.get("multiprocessing.process")
    process = spawning.current_process() if spawning is not None else None
    if process is not None and getattr(process, "_inheriting", False):
        if process.name.startswith("Dask Worker process"):
            raise SystemExit(UNGUARDED)
        raise ConfigError(explanation())
