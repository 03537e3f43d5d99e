"""A simulated worker: spends virtual time on a lease, and commits for real; see `simulation`."""

import json
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

from sim_world import CALM, OVERHEAD, UNIT_TIMEOUT

from espnet3.parallel.engine import shards
from espnet3.parallel.engine.coverage import Shard
from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.death import UNKNOWN, Death
from espnet3.parallel.engine.ledger import find_epochs
from espnet3.parallel.engine.marker import READERS, InFlight
from espnet3.parallel.engine.report import LeaseReport, UnitFailure

if TYPE_CHECKING:
    from simulation import Driver

CONTENT = "units.json"  # what a shard holds here


class Attempt:
    """A worker on a lease: what it will do, and when. It may outlive its driver."""

    def __init__(self, driver: "Driver", lease: Lease) -> None:
        self.driver = driver
        self.lease = lease
        self.world = driver.world
        self.buried = False
        self.path = self.world.run_dir / shards.shard_name(
            driver.run.naming.shard_id(lease.first, lease.number)
        )
        self.units: list[tuple[int, int]] = []
        self._begins: list[float] = []
        self._reads = self.world.rng.choice([0, 1, 2, 4])  # units ahead of the one in hand
        if lease.alone or not lease.may_overlap:
            self._reads = 0
        self._trouble: tuple[str, int, int] | None = None
        self._ends_at = self._work(self.world.now + OVERHEAD)

    def __repr__(self) -> str:
        return f"{self.path.name} [{self.lease.first}, {self.lease.stop})"

    def begin(self) -> None:
        """Make the directory, and meet one's fate."""
        self.world.log(self, "begins")
        self.path.mkdir()
        world, rng, weather = self.world, self.world.rng, self.driver.weather
        delay = rng.choice([0.0, 0.01, 3.0]) if weather != CALM else 0.0
        if self._trouble and self._trouble[0] == "killing":
            found = InFlight(self._trouble[1], self._read_ahead_at(self._trouble[1]))
            world.at(self._ends_at + delay, self.driver, self._lost(found))
            return
        if self._trouble and self._trouble[0] == "hanging":
            first = self._trouble[1]
            moment = self._ends_at + UNIT_TIMEOUT + delay
            found = InFlight(first, self._read_ahead_at(first))
            world.at(moment, self.driver, self._lost(found, Death(by_driver_at=first)))
            return
        fate = rng.random()
        if rng.random() < weather.drain:
            world.at(rng.uniform(world.now, self._ends_at), self.driver, self.driver.asked_to_stop)
        if fate < weather.dies:
            moment = rng.uniform(world.now, self._ends_at)
            marker, death = self._marker(moment), Death()
            if rng.random() < 0.1:  # the driver ended it for a unit that was done just then
                lease_end = self.lease.stop
                death = Death(by_driver_at=lease_end if marker is None else marker.position + 1)
            world.at(moment + delay, self.driver, self._lost(marker, death))
            return
        fate -= weather.dies
        if fate < weather.dies_committed:
            world.at(self._ends_at, self, self._commit)
            world.at(self._ends_at + delay, self.driver, self._lost(None))
            return
        fate -= weather.dies_committed
        if fate < weather.cut_off:
            moment = rng.uniform(world.now, self._ends_at)
            world.at(moment, self.driver, self._lost(self._marker(moment)))
            self._ends_at += rng.choice([0.0, 1.0, 1000.0])
        self._delay = delay
        world.at(self._ends_at, self, self._commit_and_report)

    def _work(self, now: float) -> float:
        """The loop of `LeaseWorker`, in virtual time."""
        items, lease, plan = self.driver.items, self.lease, self.driver.plan
        position, deadline = lease.first, now + lease.seconds
        while position < lease.stop and not (now >= deadline and position > lease.first):
            stop = lease.stop if lease.alone else plan.unit_stop(position, lease.stop)
            unit = set(self.driver.owned.order.positions(position, stop))
            self._begins.append(now)
            if any(self._is_deadly(*each) for each in self._next(position)):
                self._trouble = ("killing", position, stop)
                return now + min(items.costs[p] for p in unit)
            now += sum(items.costs[p] for p in unit)
            for kind in ("killing", "hanging", "poisoned", "flaky", "breaking"):
                if unit & getattr(items, kind):
                    self._trouble = (kind, position, stop)
                    items.flaky -= unit if kind == "flaky" else set()
                    return now
            self.units.append((position, stop))
            position = stop
        return now

    def _next(self, position: int) -> list[tuple[int, int]]:
        """The units that may be read, or have been, while the one at `position` is worked on."""
        units, stop = [], position
        for _ in range(self._reads + 1):
            if stop < self.lease.stop:
                first, stop = stop, self.driver.plan.unit_stop(stop, self.lease.stop)
                units.append((first, self.lease.stop if self.lease.alone else stop))
        return units

    def _read_ahead_at(self, position: int) -> tuple[int, ...]:
        """What the marker says is being read: what kills, if any of it does, and some others."""
        units = self._next(position)
        deadly = [first for first, stop in units if self._is_deadly(first, stop)]
        others = [first for first, _ in units if first not in deadly]
        n_others = self.world.rng.randint(0, min(len(others), READERS - 1))
        return (*deadly[:1], *self.world.rng.sample(others, n_others))

    def _is_deadly(self, first: int, stop: int) -> bool:
        return not self.driver.items.deadly.isdisjoint(
            self.driver.owned.order.positions(first, stop)
        )

    def _marker(self, moment: float) -> InFlight | None:
        """What the in-flight marker says at a moment; now and then nothing can be read."""
        begun = sum(begin <= moment for begin in self._begins)
        firsts = [first for first, _ in self.units]
        if self._trouble:
            firsts.append(self._trouble[1])
        if not begun or firsts[begun - 1] in self.world.blamed or self.world.rng.random() < 0.3:
            return None
        self.world.blamed.add(firsts[begun - 1])
        return InFlight(firsts[begun - 1], self._read_ahead_at(firsts[begun - 1]))

    def _lost(self, found: InFlight | None, death: Death = UNKNOWN) -> Callable[[], None]:
        def tell() -> None:
            self.world.log(self, "is taken for dead in", found, death)
            self.driver.lost(self, found, death)

        return tell

    def _commit_and_report(self) -> None:
        report = self._commit()
        self.world.at(
            self.world.now + self._delay,
            self.driver,
            lambda: self.driver.reported(self, report),
        )

    def _commit(self) -> LeaseReport:
        """What `LeaseWorker` does at the end of a lease, if the world lets it."""
        lease, number = self.lease, self.lease.number
        stopped_at = self.driver.stopped_at
        if stopped_at is not None:
            kept = sum(begin <= stopped_at for begin in self._begins)
            if kept < len(self._begins):
                self.units, self._trouble = self.units[:kept], None
        kind, first, stop = self._trouble or ("", lease.first, lease.stop)
        if self.world.rng.random() < self.driver.weather.fatal:
            shutil.rmtree(self.path, ignore_errors=True)
            return LeaseReport(number, lease.first, fatal=_failure(first, stop, "close_writers"))
        if kind == "breaking":
            shutil.rmtree(self.path, ignore_errors=True)
            if first == lease.first:
                return LeaseReport(number, stop, failure=_failure(first, stop, "write_record"))
            redo, suspect = (lease.first, first), (first, stop)
            return LeaseReport(number, stop, redo=redo, suspect=suspect)
        failure = _failure(first, stop, "forward") if kind else None
        done = self.units[-1][1] if self.units else lease.first
        try:
            shard = self._write(done) if self.units else None
        except FileNotFoundError:  # a newer owner removed what was to it a leftover
            run = self.driver.run
            assert self.buried or self.driver.outcome or find_epochs(run.run_dir)[-1] > run.epoch
            return LeaseReport(number, lease.first, fatal=_failure(first, stop, "close_writers"))
        return LeaseReport(number, failure.stop if failure else done, shard, failure=failure)

    def _write(self, stop: int) -> Shard:
        run = self.driver.run
        positions = [*self.driver.owned.order.positions(self.lease.first, stop)]
        seconds = sum(self.driver.items.costs[p] for p in positions)
        shard = Shard(self.path.name, self.lease.first, stop - 1, seconds)
        content = {"run": run.run_id, "units": self.units, "positions": positions}
        (self.path / CONTENT).write_text(json.dumps(content))
        shards.commit(self.path, run.run_id, run.epoch, shard)
        self.world.log(self, "commits up to", stop)
        return shard


def _failure(first: int, stop: int, step: str) -> UnitFailure:
    # No two errors are alike: three that are would stop a run as hopeless.
    return UnitFailure(first, stop, f"#{first}", step, f"Error{first}", "bad", "Traceback ...")
