"""Whether a run has a driver now, told without waiting and without touching its lock."""

import time
from collections.abc import Callable
from pathlib import Path

from espnet3.parallel.engine.owner import (
    Owner,
    describe_process,
    has_pid_here,
    is_dead,
    is_on_this_host,
    is_suspended,
    read_owner,
    without_beat,
)
from espnet3.parallel.engine.watch import PATIENCE, UNITS
from espnet3.runs.views import OwnerView


class Beats:
    """What this process itself has seen of a heartbeat, from one look to the next."""

    def __init__(self) -> None:
        self._owner: Owner = {}
        self._moved: float | None = None

    def seconds(self, owner: Owner) -> float | None:
        """Since it was last seen to have moved; None if it never was."""
        if owner != self._owner:
            moves = without_beat(owner) == without_beat(self._owner)
            self._owner, self._moved = owner, time.monotonic() if moves else None
        return None if self._moved is None else time.monotonic() - self._moved


def see_owner(
    run_dir: Path, longest: Callable[[], float], beats: Beats
) -> tuple[OwnerView | None, str]:
    """Who owns the run, and why that driver counts as dead; "" if it does not.

    On its own host a driver is asked for by its pid. From elsewhere its heartbeat tells. Until that
    was seen to move, all there is to go by is the time at which the lock file was last written:
    with clocks that differ by minutes that may be wrong, which harms nobody, as nothing is taken
    over here.

    Args:
        run_dir: the run directory.
        longest: tells the seconds of the longest unit so far, which may hold a heartbeat up.
        beats: of former looks.
    """
    owner, written = read_owner(run_dir)
    if not owner:
        return None, ""
    here = describe_process()
    seconds = beats.seconds(owner)
    if seconds is None and written is not None:
        seconds = max(0.0, time.time() - written)
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
