"""A random life of one run, from a seed. See one happen, event by event:

python tests/engine/schedule.py SEED
"""

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from sim_world import UNIT_TIMEOUT, Items, Weather, World
from simulation import Call, Driver

from espnet3.errors import RunFailed, RunStopped
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine.manifest import Manifest

CALLS = [Call(), Call(beam=2), Call(beam=3), Call(first_item=5), Call(beam=2, first_item=5)]


class Schedule:
    """A few stormy starts, then calm ones until it is complete."""

    def __init__(self, run_dir: Path, seed: int, *, trace: bool = False) -> None:
        self.world = World(run_dir, seed, trace=trace)
        self.rng = self.world.rng
        fate = self.rng.random()
        self.locks, self.taken = fate < 0.5, fate >= 0.75
        self.items = Items.draw(self.rng)
        self.drivers: list[Driver] = []
        self.call = Call()
        self.most_kills = 2
        self.power_cuts = 0

    def play(self) -> None:
        """Live through it.

        Raises:
            AssertionError: if the engine broke one of its promises.
        """
        with self.world.reign(locks=self.locks, taken=self.taken):
            for _ in range(self.rng.randint(1, 4)):
                self._stormy_start()
            self._retry_until_only_bad_ones_fail()
            self._publish()
            while self.world.step():  # whoever is still about commits now, too late
                pass
            for driver in self._alive():
                driver.crash(power_cut=False)
            self._publish()
            self._check_nothing_is_left_over()

    def _stormy_start(self) -> None:
        rng = self.rng
        weather = Weather(*(rng.choice([0.0, 0.05, 0.3]) for _ in range(3)), 0.01, 0.02)
        config = RunConfig(
            on_error=rng.choice(["finish", "finish", "skip", "raise"]),
            max_kills=rng.choice([2, 3]),
            lease_seconds=rng.choice([1.0, 10.0, 60.0]),
            limit=rng.choice([None, None, None, rng.randint(1, len(self.items))]),
            max_failures=rng.choice([None, None, None, 0, 1, 3]),
            accept_changes=rng.random() < 0.2,
        )
        self.most_kills = max(self.most_kills, config.max_kills)
        resume = rng.random() < 0.8
        if not resume and not self._alive() and rng.random() < 0.5:
            self.items = Items.draw(rng)
        call = self.call
        if rng.random() < 0.2:
            call = rng.choice(CALLS)
        driver = self._driver(config, resume=resume, call=call, weather=weather)
        if self.taken and rng.random() < 0.5:  # in the middle of that one's start, with luck
            rival = self._driver(config, resume=rng.random() < 0.5, call=call, weather=weather)
            while not rival.started and self.world.step():
                pass
        patience = rng.choice([3, 10, 30, 10_000])
        while driver.outcome is None and patience and self.world.step():
            patience -= 1
        # Without locks, an owner that is alive may be taken for dead. It goes on, as a zombie.
        if self.locks or rng.random() < 0.5:
            power_cut = rng.random() < 0.3
            self.power_cuts += power_cut
            driver.crash(power_cut=power_cut)
        if rng.random() < 0.1:
            self._vandalise()
        self._remember_whose_run_it_is()

    def _remember_whose_run_it_is(self) -> None:
        """The calls to come are those that the run there was made, or accepted, for."""
        manifest = Manifest.read(self.world.run_dir)
        if manifest is not None:
            n = len(self.items)
            (self.call,) = (call for call in CALLS if call.is_of(manifest, n))

    def _vandalise(self) -> None:
        found = sorted(self.world.run_dir.glob("split.*/done"))
        if found:
            shutil.rmtree(self.rng.choice(found).parent)

    def _retry_until_only_bad_ones_fail(self) -> None:
        for _ in range(4):  # a shard that was removed costs one start, a flaky item another
            driver = self._driver(RunConfig(on_error="finish"))
            self._run_to_end(driver)
            if driver.outcome == "sealed":
                assert not self.items.bad
                return
            if isinstance(driver.outcome, RunFailed):
                failed = {entry["position"] for entry in driver.outcome.failures}
                if failed == self.items.bad:
                    return
        raise AssertionError(f"does not come to an end: {driver.outcome!r}")

    def _publish(self) -> None:
        for _ in range(2):  # the first one may find that shards were removed
            driver = self._driver(RunConfig(on_error="skip"))
            self._run_to_end(driver)
            if not isinstance(driver.outcome, RunStopped):
                break
        assert driver.outcome == "sealed", repr(driver.outcome)
        order = driver.owned.order
        assert {order.position(p) for p in driver.run.coverage.failed} == self.items.bad
        assert driver.run.coverage.sealed

    def _check_nothing_is_left_over(self) -> None:
        run = self.drivers[-1].run
        # Counted over all starts, and then left alone.
        for position in self.items.killing | self.items.deadly:
            position = self.drivers[-1].owned.order.place(position)
            deaths = self.world.deaths[run.run_id, position, position + 1]
            # A power cut may leave the last death in the ledger, and not that it was one too many.
            # What a driver writes while another takes over does not count, without a lock.
            assert deaths <= self.most_kills + self.power_cuts or not self.locks
            assert run.coverage.kills[position, position + 1] <= deaths
        known = {shard.name for shard in self.drivers[-1].run.coverage.shards.values()}
        assert {path.name for path in self.world.run_dir.glob("split.*")} == known

    def _driver(self, config: RunConfig, **more: Any) -> Driver:
        rng = self.rng
        durations = [cost * rng.uniform(0.5, 2.0) for cost in self.items.costs]
        driver = Driver(
            self.world,
            self.items,
            workers=rng.choice([1, 2, 3, 5]),
            batch_size=rng.choice([None, 1, 2, 3, 8]),
            batch_seconds=rng.choice([None, None, max(durations), sum(durations) / 4]),
            window=rng.choice([5, 20, 4096]),
            durations=rng.choice([None, durations, [0.0] * len(durations)]),
            config=replace(config, unit_timeout=UNIT_TIMEOUT),
            **{"call": self.call, **more},
        )
        self.drivers.append(driver)
        self.world.at(self.world.now, driver, driver.start)
        return driver

    def _run_to_end(self, driver: Driver) -> None:
        while driver.outcome is None and self.world.step():
            pass
        assert driver.outcome is not None, f"{driver} waits for nobody"

    def _alive(self) -> list[Driver]:
        return [driver for driver in self.drivers if driver.outcome is None]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        Schedule(Path(place), int(sys.argv[1]), trace=True).play()
