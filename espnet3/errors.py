"""The errors that espnet3 raises on purpose.

Each is also the built-in exception that a caller would expect (``ValueError`` for something wrong
in what was given, ``RuntimeError`` for something that went wrong on the way), so ``except
ValueError`` works without knowing these names. Messages say what was wrong, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from espnet3._conflict import check_single_espnet3

# Also here: where another espnet3 has overwritten our `__init__`, this module is still ours.
check_single_espnet3()


class ESPnet3Error(Exception):
    """Base of every error below; catch it to handle whatever espnet3 refuses on purpose."""


class ConfigError(ESPnet3Error, ValueError):
    """Raised by whatever reads a config, before anything starts; correct the keys that it names."""


class DataError(ESPnet3Error, ValueError):
    """Raised by data sets, scp readers and merges; mend the file or utterance that it names."""


class RecordRejected(ESPnet3Error, ValueError):
    """Raised by a writer hook before it has written anything of a record.

    It costs that unit alone, like an exception in ``forward``; any other exception from a hook
    throws the whole uncommitted shard away. Mend the record that it names, or skip the item.
    """


class EnvBuildError(ESPnet3Error, RuntimeError):
    """Raised by the engine when a provider could not build its env; mend the cause it names."""


class RunInUse(ESPnet3Error, RuntimeError):
    """Raised by a driver that finds another one owning the run; wait for that one or end it."""


class IdentityChanged(ESPnet3Error, RuntimeError):
    """Raised by a driver asked to resume a run whose results would no longer be the same.

    Go on with ``resume: false``, with another ``output_dir``, or with ``accept_changes: true``.
    """


class LedgerError(ESPnet3Error, RuntimeError):
    """Raised by whoever reads a ledger that is damaged; nothing was changed."""


class OwnershipLost(ESPnet3Error, RuntimeError):
    """Raised by a driver that finds a newer owner on its run; it stops, nothing is harmed."""


class RunStopped(ESPnet3Error, RuntimeError):
    """Raised by the driver when a run cannot go on (disk full, a hook that fails, no worker left).

    What was committed is kept; mend the cause that it names and run again.
    """


class RunFailed(ESPnet3Error, RuntimeError):
    """Raised by the driver at the end of a run with failed positions, from their first exception.

    Everything else is kept. Run again to retry the failed positions alone, or set
    ``on_error: skip`` to publish without them.

    Attributes:
        failures: One record per failed position, in position order.
        debug: The call or command that does the first of them alone under a debugger; empty where
            nobody knows one. The text ends with it. Whoever knows a better one sets it.
    """

    failures: list[Any]
    debug: str

    def __init__(self, message: str = "", failures: Iterable[Any] = (), debug: str = "") -> None:
        super().__init__(message)
        self.failures = list(failures)
        self.debug = debug

    @property
    def summary(self) -> str:
        """The text without the call or command that debugs an item."""
        return super().__str__()

    def __str__(self) -> str:
        """Return the whole text."""
        if not self.debug:
            return self.summary
        return f"{self.summary}\n{_HOW_TO_DEBUG}\n  {self.debug}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle their args alone, and this one crosses process boundaries.
        return type(self), (self.summary, self.failures, self.debug)


_HOW_TO_DEBUG = "To do the first one alone, under a debugger (the run is left as it is):"
