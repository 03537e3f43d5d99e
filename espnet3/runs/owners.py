"""Whether a run has a driver now, told without waiting and without touching its lock."""

import time
from collections.abc import Callable
from pathlib import Path

from espnet3.parallel.engine.owner import (
    describe_process,
    has_pid_here,
    is_dead,
    is_on_this_host,
    is_suspended,
    read_owner,
)
from espnet3.parallel.engine.watch import PATIENCE, UNITS
from espnet3.runs.views import OwnerView


def see_owner(run_dir: Path, longest: Callable[[], float]) -> tuple[OwnerView | None, str]:
    """Who owns the run, and why that driver counts as dead; "" if it does not.

    On its own host a driver is asked for by its pid. From elsewhere its heartbeat tells, by the
    time at which the lock file was last written: with clocks that differ by minutes it may be wrong
    for a while, which harms nobody, as nothing is taken over here.

    Args:
        run_dir: the run directory.
        longest: tells the seconds of the longest unit so far, which may hold a heartbeat up.
    """
    owner, written = read_owner(run_dir)
    if not owner:
        return None, ""
    here = describe_process()
    seconds = None if written is None else max(0.0, time.time() - written)
    sure = is_on_this_host(owner, here) and (
        owner.get("boot") != here["boot"] or has_pid_here(owner, here)
    )
    pid = owner["pid"] if isinstance(owner.get("pid"), int) else None
    dead = ""
    if is_dead(owner, here):
        dead = f"its driver, pid {pid} on this host, is gone"
    elif not sure and seconds is not None and seconds > PATIENCE and seconds > UNITS * longest():
        dead = f"no heartbeat of its driver, pid {pid} on {owner['host']}, for {seconds:.0f} s"
    view = OwnerView(
        host=str(owner["host"]),
        pid=pid,
        started=str(owner.get("started", "")),
        command=str(owner.get("command", "")),
        here=sure,
        seconds=seconds,
        suspended=bool(sure and pid and not dead and is_suspended(pid)),
    )
    return view, dead
