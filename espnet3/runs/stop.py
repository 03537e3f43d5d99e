"""Asking the driver of a run to drain, wherever it is."""

import getpass
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from espnet3.errors import DataError
from espnet3.parallel.engine.disk import explained
from espnet3.parallel.engine.owner import (
    Owner,
    describe_process,
    has_pid_here,
    is_dead,
    is_on_this_host,
    read_owner,
)
from espnet3.parallel.engine.stop_request import write_request


@dataclass(frozen=True)
class Asked:
    """Who was asked to stop.

    Attributes:
        host: of the driver.
        pid: of the driver.
        by_signal: it was sent SIGTERM, so it begins to drain now; else it finds the request at its
            next heartbeat, within a minute.
    """

    host: str
    pid: int
    by_signal: bool


def stop(run_dir: str | os.PathLike[str]) -> Asked:
    """Ask the driver of a run to stop: items in hand are finished and committed, then it ends.

    It is as if its process was sent SIGTERM, so all that this was to do afterwards stays undone.

    Args:
        run_dir: the run directory.

    Raises:
        DataError: if no driver has the run, or the one that had it is dead.
        PermissionError: if the driver is another user's, on this host.
        RunStopped: if the request cannot be written.
    """
    run_dir = Path(run_dir)
    owner, _ = read_owner(run_dir)
    here = describe_process()
    if not owner:
        raise DataError(f"no driver has {run_dir}; there is nothing to stop")
    host, pid = str(owner["host"]), int(owner.get("pid", 0))
    if is_dead(owner, here):
        raise DataError(f"{run_dir}: its driver, pid {pid} on this host, is gone already")
    if is_on_this_host(owner, here) and has_pid_here(owner, here):
        _send_signal(run_dir, owner, here)
        return Asked(host, pid, by_signal=True)
    with explained(run_dir):
        write_request(run_dir, owner, f"{getpass.getuser()} on {here['host']}")
    return Asked(host, pid, by_signal=False)


def _send_signal(run_dir: Path, owner: Owner, here: Owner) -> None:
    """Send SIGTERM to that very process, even if its number is given to another one meanwhile."""
    gone = DataError(f"{run_dir}: its driver, pid {owner['pid']} on this host, is gone already")
    try:
        process = os.pidfd_open(owner["pid"])
    except ProcessLookupError as error:
        raise gone from error
    try:
        if is_dead(owner, here):
            raise gone
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except ProcessLookupError as error:
        raise gone from error
    finally:
        os.close(process)
