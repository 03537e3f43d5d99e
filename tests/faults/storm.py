"""What is done to a driver and its workers while they work, and at which moments."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from fragile import forwards
from place import await_that
from start import END_LIMIT, Start

SUSPENDED = 0.3  # seconds at most that somebody is stopped


@dataclass(frozen=True)
class Moment:
    """When something is done to a start.

    Attributes:
        what: `forwards` (so many items were begun), `closings` (so many shards were being closed),
            `mergings` (its merge began), `epoch` (its ledger is there), or `seconds`.
        value: how many.
    """

    what: str
    value: float

    @classmethod
    def draw(cls, rng: random.Random, n_items: int, workers: int) -> "Moment":
        """Mostly while items are done, sometimes in the first steps or the last ones."""
        what = rng.choices(
            ["forwards", "closings", "mergings", "epoch", "seconds"], [10, 2, 2, 1, 2]
        )[0]
        value = {
            "forwards": rng.randint(1, n_items),
            "closings": rng.randint(1, 4),
            "seconds": rng.uniform(0, 0.2 if workers == 1 else 1.5),
        }.get(what, 1)
        return cls(what, value)

    def has_come(self, start: Start, began: float, epoch: int) -> bool:
        """Whether it is that moment, or later."""
        match self.what:
            case "forwards":
                return start.forwards >= self.value
            case "epoch":
                return (start.place.out / f"ledger.{epoch + 1}.jsonl").exists()
            case "seconds":
                return time.monotonic() - began >= self.value
            case _:
                return start.noted(self.what) >= self.value

    def __str__(self) -> str:
        return f"at {self.what} {self.value:.3g}"


Act = Callable[[Start, random.Random], None]


def _victim(start: Start, rng: random.Random) -> int | None:
    """A worker: mostly one that has begun something."""
    alive = start.workers_now()
    busy = {f.pid for f in forwards(start.place.log)[-20:]} & set(alive)
    return rng.choice(sorted(busy) or alive) if alive else None


def _signal_worker(start: Start, rng: random.Random, number: int) -> int | None:
    victim = _victim(start, rng)
    if victim is None or start.ended:
        return None
    with suppress(ProcessLookupError):
        os.kill(victim, number)
        start.hit_early |= not start.forwards and number != signal.SIGSTOP
        return victim
    return None


def kill_worker(start: Start, rng: random.Random) -> None:
    """SIGKILL."""
    victim = _signal_worker(start, rng, signal.SIGKILL)
    if victim:
        start.killed.add(victim)
        start.place.count("worker SIGKILL", str(victim))


def end_worker(start: Start, rng: random.Random) -> None:
    """SIGTERM."""
    victim = _signal_worker(start, rng, signal.SIGTERM)
    if victim:
        start.place.count("worker SIGTERM", str(victim))


def suspend_worker(start: Start, rng: random.Random) -> None:
    """SIGSTOP, and SIGCONT when the others have done a few items, or nothing, for a while."""
    victim = _signal_worker(start, rng, signal.SIGSTOP)
    if victim:
        start.place.count("worker SIGSTOP", str(victim))
        goal = start.forwards + rng.randint(1, 10)
        await_that(lambda: start.ended or start.forwards >= goal, SUSPENDED)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGCONT)


def kill_driver(start: Start, rng: random.Random) -> None:
    """SIGKILL."""
    if start.send(signal.SIGKILL):
        start.place.count("driver SIGKILL")


def suspend_driver(start: Start, rng: random.Random) -> None:
    """SIGSTOP, then SIGCONT."""
    if start.send(signal.SIGSTOP):
        start.place.count("driver SIGSTOP")
        goal = start.forwards + rng.randint(1, 10)
        await_that(lambda: start.forwards >= goal, SUSPENDED)
        start.process.send_signal(signal.SIGCONT)


def end_driver(start: Start, rng: random.Random) -> None:
    """SIGTERM or SIGINT, to the driver or to the whole group."""
    number, group = rng.choice([signal.SIGTERM, signal.SIGINT]), rng.random() < 0.5
    if start.send(number, group=group):
        start.hit_early |= group and not start.forwards
        name = f"driver{' and workers' if group else ''} {number.name}"
        start.place.count(name)


def end_driver_at_once(start: Start, rng: random.Random) -> None:
    """SIGINT twice."""
    if start.send(signal.SIGINT):
        time.sleep(rng.choice([0.0, 0.003, 0.05]))
        if start.send(signal.SIGINT):
            start.place.count("driver SIGINT twice")


def fill_disk(start: Start, rng: random.Random) -> None:
    """No room for another byte, or for another file."""
    inodes, leave = rng.random() < 0.3, rng.choice([0, 0, 4096, 12288])
    start.place.fill_disk(leave, inodes)
    start.disk_was_full = True
    start.place.count("disk full", "no more files" if inodes else f"{leave} bytes left")


ON_WORKERS = [kill_worker, kill_worker, end_worker, suspend_worker]
ON_DRIVER = [kill_driver, kill_driver, end_driver, end_driver, end_driver_at_once, suspend_driver]


def blow(start: Start, acts: list[tuple[Moment, Act]], rng: random.Random, epoch: int) -> None:
    """Do what was drawn, each when its moment has come, until the driver ends."""
    began = time.monotonic()

    def ended_or(moment: Moment) -> bool:
        return start.ended or moment.has_come(start, began, epoch)

    for moment, act in acts:
        await_that(partial(ended_or, moment), END_LIMIT)
        if start.ended:
            return
        start.place.say(f"{moment}:")
        act(start, rng)
