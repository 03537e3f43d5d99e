"""What reads ahead holds still while user code forks the process."""

import os
import weakref
from contextlib import suppress
from typing import Any

LIMIT = 5.0  # seconds that a fork waits for an item that is being read

_watched: "weakref.WeakSet[Any]" = weakref.WeakSet()


def watch(reader: Any) -> None:
    """Tell that one of every fork to come, as long as it lives."""
    _watched.add(reader)


def _tell(method: str) -> None:
    for reader in list(_watched):
        with suppress(Exception):  # a fork is the user's; it must not fail for this
            getattr(reader, method)()


os.register_at_fork(
    before=lambda: _tell("before_fork"),
    after_in_parent=lambda: _tell("after_fork"),
    after_in_child=lambda: _tell("after_fork_in_child"),
)
