"""The simulated world's clock, weather, and the truth about its items; see `simulation`."""

import heapq
import itertools
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from espnet3.errors import OwnershipLost
from espnet3.parallel.engine import directory

OVERHEAD = 0.02  # seconds that a lease costs beside its units
UNIT_TIMEOUT = 100.0  # seconds: longer than any batch of good items
MOST_EVENTS = 50_000  # hundreds of times what a schedule needs


class NoLock:
    """A file system on which nobody can lock anything: epochs alone keep drivers apart."""

    owner: Mapping[str, Any] = {}

    @classmethod
    def acquire(cls, run_dir: Path, overwrite: bool = False) -> "NoLock":
        return cls()

    def check(self) -> None:
        pass

    def release(self) -> None:
        pass


class TakenLock(NoLock):
    """A lock that everybody takes from whoever has it, as `allow_overwrite_lock` says."""

    _holders: ClassVar[dict[Path, "TakenLock"]] = {}

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._holders[run_dir] = self

    @classmethod
    def acquire(cls, run_dir: Path, overwrite: bool = False) -> "TakenLock":
        return cls(run_dir)

    def check(self) -> None:
        if self._holders[self._run_dir] is not self:
            raise OwnershipLost("taken over while starting")


@dataclass
class Items:
    """The truth about the items, which the engine has to find out.

    Attributes:
        costs: seconds that each takes.
        poisoned: `forward` raises.
        breaking: the record leaves its shard in an unknown state.
        killing: the worker dies.
        deadly: the worker dies while it reads it, perhaps ahead, at another unit.
        flaky: `forward` raises once.
        hanging: `forward` never comes back.
    """

    costs: list[float]
    poisoned: frozenset[int] = frozenset()
    breaking: frozenset[int] = frozenset()
    killing: frozenset[int] = frozenset()
    deadly: frozenset[int] = frozenset()
    flaky: set[int] = field(default_factory=set)
    hanging: frozenset[int] = frozenset()

    @classmethod
    def draw(cls, rng: random.Random) -> "Items":
        n = rng.choice([1, 2, 7, 12, 30, 60])
        scale = rng.choice([0.01, 0.5, 5.0])

        def some(at_most: int) -> set[int]:
            return {rng.randrange(n) for _ in range(rng.randint(0, at_most))}

        costs = [scale * rng.lognormvariate(0, 0.8) for _ in range(n)]
        poisoned, breaking, killing, flaky = some(2), some(1), some(1), some(3)
        hanging, deadly = frozenset(some(1)), frozenset(some(2))
        return cls(
            costs,
            frozenset(poisoned),
            frozenset(breaking),
            frozenset(killing),
            deadly,
            flaky,
            hanging,
        )

    def __len__(self) -> int:
        return len(self.costs)

    @property
    def bad(self) -> set[int]:
        """What never succeeds."""
        return set(self.poisoned | self.breaking | self.killing | self.deadly | self.hanging)


@dataclass(frozen=True)
class Weather:
    """How probable it is, for a lease, that..."""

    dies: float = 0.0  # ... its worker dies before the commit
    dies_committed: float = 0.0  # ... or after it, before the report
    cut_off: float = 0.0  # ... or is taken for dead, while it goes on
    fatal: float = 0.0  # ... it ends in something that is no item's fault
    drain: float = 0.0  # ... the driver is asked to stop meanwhile


CALM = Weather()


class World:
    """One run directory, everybody who works on it, and the clock."""

    def __init__(
        self, run_dir: Path, seed: int, *, trace: bool = False, interleave: float = 0.05
    ) -> None:
        self.run_dir = run_dir
        self.rng = random.Random(seed)
        self.now = 0.0
        self.blamed: set[int] = set()
        """First positions of units that a worker died in by chance: once each, so that no
        innocent item is given up and `Items.bad` is exactly what fails."""
        self.deaths: Counter[tuple[str, int, int]] = Counter()
        """(run, first, stop) -> how often a driver wrote that a worker died in that unit."""
        self.locks, self.taken = True, False
        self.endings = ExitStack()
        """Closes what actors hold, where a failed test leaves them in the middle of something."""
        self._trace = trace
        self._interleave = interleave
        self._events: list[tuple[float, int, object, Callable[[], None]]] = []
        self._count = itertools.count()
        self._running: list[object] = []

    def at(self, time: float, actor: object, action: Callable[[], None]) -> None:
        """Let `actor` do something at a time to come."""
        heapq.heappush(self._events, (time, next(self._count), actor, action))

    def step(self) -> bool:
        """The next event; False if there is none."""
        if not self._events:
            return False
        time, number, actor, action = heapq.heappop(self._events)
        assert number < MOST_EVENTS, "this goes on for ever"
        self.now = max(self.now, time)
        self._run(actor, action)
        return True

    def log(self, who: object, *what: object) -> None:
        """Tell what happens, if somebody listens."""
        if self._trace:
            sys.stdout.write(
                f"{self.now:9.3f} {'  ' * len(self._running)}{who}: {' '.join(map(str, what))}\n"
            )

    @property
    def alone(self) -> bool:
        """Whether nobody else is in the middle of something just now."""
        return len(self._running) == 1

    @contextmanager
    def reign(self, *, locks: bool = True, taken: bool = False) -> Iterator[None]:
        """For the length of a `with` block, `os.fsync` belongs to this world.

        Args:
            locks: nobody gets the run whose owner is alive.
            taken: without `locks`: everybody takes the run from its owner, who can see that.
        """
        self.locks, self.taken = locks, taken
        with ExitStack() as stack:
            stack.enter_context(self.endings)
            stack.enter_context(mock.patch.object(os, "fsync", self._fsync))
            # Every manifest and lock keeps the command line, after a search for the secrets that
            # the environment holds: a fifth of the time of a schedule.
            stack.enter_context(mock.patch.dict(os.environ, clear=True))
            stack.enter_context(mock.patch.object(sys, "argv", ["simulation"]))
            if not locks:
                lock = TakenLock if taken else NoLock
                stack.enter_context(mock.patch.object(directory, "OwnerLock", lock))
            yield

    def _run(self, actor: object, action: Callable[[], None]) -> None:
        self._running.append(actor)
        try:
            action()
        finally:
            self._running.pop()

    def _fsync(self, fd: int) -> None:
        if self.rng.random() >= self._interleave or len(self._running) > 2:
            return
        others = [e for e in self._events if e[2] not in self._running]
        if others:
            event = self.rng.choice(others)
            self._events.remove(event)
            heapq.heapify(self._events)
            self._run(event[2], event[3])
