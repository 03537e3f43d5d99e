"""What Dask says: not in the terminal, where the engine says it in its own words, but in a log."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from espnet3.parallel.engine.files import DASK_LOG

_LOGGERS = ("distributed", "distributed.client", "distributed.gc")
"""Those that Dask may have given a handler for the terminal."""
_FORMAT = "%(asctime)s pid %(process)d %(levelname)s %(name)s: %(message)s"


class DaskLog(logging.Handler):
    """Appends to the log of a run, as several processes do; what the disk refuses is lost.

    Args:
        logs: the directory.
    """

    def __init__(self, logs: str | os.PathLike[str]) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter(_FORMAT))
        self._path = Path(logs, DASK_LOG)

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`."""
        # Opened for each record: they are few, and the directory may come late or go at any time.
        with suppress(OSError, ValueError):
            line = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)


_NOBODY = logging.Logger("nobody")
"""Where what Dask says ends, instead of at the root of all loggers."""
_NOBODY.addHandler(logging.NullHandler())


@contextmanager
def dask_log(logs: Path | None) -> Iterator[None]:
    """Write what Dask says in this process to a log, for the length of a `with` block.

    Args:
        logs: its directory; None writes nowhere.
    """
    silence()
    if logs is None:
        yield
        return
    handler, logger = DaskLog(logs), logging.getLogger("distributed")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def worker_environment(logs: Path | None) -> dict[str, str]:
    """Variables by which a worker process does the same from its first line on."""
    if logs is None:
        return {"DASK_LOGGING__DISTRIBUTED": "critical"}
    settings = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"file": {"class": f"{__name__}.{DaskLog.__name__}", "logs": str(logs)}},
        "loggers__distributed": {"level": "INFO", "handlers": ["file"], "propagate": False},
        "loggers__tornado": {"level": "CRITICAL"},  # as Dask has it
    }
    return {f"DASK_LOGGING__{key.upper()}": str(value) for key, value in settings.items()}


def silence() -> None:
    """Keep Dask out of the terminal from here on, also where nobody writes its log."""
    import distributed  # noqa: F401  (it sets up its loggers)

    for logger in map(logging.getLogger, _LOGGERS):
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:  # a file of the user's is none
                handler.setLevel(logging.CRITICAL)
        logger.propagate = True
    # Not to what the program logs to. (Whoever looks for loggers that do not propagate, as pytest
    # does, would find these if that were said in the usual way.)
    logging.getLogger("distributed").parent = _NOBODY
