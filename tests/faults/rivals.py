"""A second driver on a directory that one works on."""

import random
import signal
from typing import TYPE_CHECKING

from place import Broken, await_that
from start import END_LIMIT, Start

if TYPE_CHECKING:
    from life import Life


def meet_rival(life: "Life", first: Start, rng: random.Random) -> None:
    """Start a second driver: it is refused, or takes over from one that is suspended.

    What it may not do: work beside the first one.
    """
    place = life.place
    await_that(lambda: first.ended or first.forwards > 0, END_LIMIT)  # now it owns the run
    suspended = rng.random() < 0.5
    if first.ended:
        return
    if suspended:
        first.process.send_signal(signal.SIGSTOP)
    members = first.members()
    place.count("second driver", "the first is suspended" if suspended else "")
    rival = life.new_start(
        batch_size=rng.choice([None, 8]),
        resume=True,
        run={"allow_overwrite_lock": suspended, "on_error": first.run["on_error"]},
    )
    rival.disk_was_full = first.disk_was_full
    status = rival.wait()
    refused = rival.outcome["kind"] == "RunInUse"
    if refused and status != 1:
        raise Broken(f"a second driver was refused, but with status {status}")
    if refused and suspended:
        raise Broken(f"allow_overwrite_lock does not take over:\n{rival.text[-3000:]}")
    if not refused and not suspended and not first.ended:
        raise Broken(f"two drivers at once:\n{rival.text[-3000:]}")
    if not refused and suspended:
        place.count("suspended driver taken over")
        first.superseded = True
        first.killed |= {*members, first.pid}
        life.repeats.excused |= set(range(life.truth.n_items))  # what both did counts once
    if suspended:
        first.process.send_signal(signal.SIGCONT)
    if not refused:
        life.repeats.killed |= first.killed
        life.end(rival, set())
