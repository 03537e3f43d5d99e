"""A simulated world for the engine: real ledgers and shards, virtual time, chaos from one seed.

Drivers and workers are actors whose events run one after the other on a virtual clock. Everything
that a driver does is the real thing: `own_run`, `Run`, `check_shards`, `seal`, on real files. A
worker is a few lines that spend virtual time as `LeaseWorker` would spend real time, and commit
with the real `shards.commit`. `os.fsync` does nothing here but let somebody else's event happen
just then, so that events interleave inside `own_run` and `commit`, too.

See one schedule happen, event by event:

    python tests/engine/simulation.py SEED
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from sim_worker import CONTENT, Attempt
from sim_world import CALM, Items, Weather, World

from espnet3.errors import IdentityChanged, OwnershipLost, RunFailed, RunInUse, RunStopped
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine import directory
from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.death import Death
from espnet3.parallel.engine.identity import hash_identity
from espnet3.parallel.engine.items import digest_items
from espnet3.parallel.engine.ledger import ledger_path, read_coverage
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.marker import InFlight
from espnet3.parallel.engine.order import LEAST_WINDOW
from espnet3.parallel.engine.report import LeaseReport
from espnet3.parallel.engine.run import Run
from espnet3.parallel.engine.shards import read_done
from espnet3.parallel.engine.work import Work


@dataclass(frozen=True)
class Call:
    """What a driver is called with that tells one run from another.

    Attributes:
        beam: of the setup; results depend on it.
        first_item: the items are the numbers from here on.
    """

    beam: int = 1
    first_item: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        """As a runner gives it."""
        return {"model": {"name": "simulated"}, "beam": self.beam}

    def items(self, n: int) -> range:
        """The items of a run of `n` positions."""
        return range(self.first_item, self.first_item + n)

    def is_of(self, manifest: Manifest, n: int) -> bool:
        """Whether that run was begun, or accepted, with this call."""
        same_identity = manifest.identity == hash_identity(self.identity, manifest.salt)
        return same_identity and manifest.items == digest_items(self.items(n))


class Driver:
    """One start of a driver: `drive.drive`, on the virtual clock."""

    def __init__(
        self,
        world: World,
        items: Items,
        *,
        workers: int = 1,
        batch_size: int | None = None,
        durations: list[float] | None = None,
        batch_seconds: float | None = None,
        window: int = LEAST_WINDOW,
        config: RunConfig | None = None,
        resume: bool = True,
        call: Call = Call(),
        weather: Weather = CALM,
        watched: bool = True,
    ) -> None:
        self.world = world
        self.items = items
        limit = config.limit if config else None
        self.work = Work(len(items), batch_size, limit, durations, batch_seconds, True, window)
        self.plan = self.work.by_count()  # before it is known which order the run has
        self.weather = weather
        self.outcome: BaseException | str | None = None
        self.stopped_at: float | None = None
        self.started = False
        self.leases = 0
        self.run: Run
        self.owned: directory.OpenRun
        self._config = config or RunConfig()
        self._resume = resume
        self._call = call
        self._watched = watched
        self._idle = workers
        self._workers = workers
        self._stack = ExitStack()
        world.endings.callback(self._stack.close)
        self._flushed = 0

    def __repr__(self) -> str:
        return f"driver {self.owned.ledger.epoch if hasattr(self, 'owned') else '?'}"

    def start(self) -> None:
        """Own the run directory and give everybody a lease."""
        self.started = True
        self._guarded(self._start)

    def reported(self, attempt: "Attempt", report: LeaseReport) -> None:
        """A worker's report arrives; it is free again, if it is not taken for dead."""
        if not attempt.buried:
            self._idle += 1
        self._guarded(lambda: self.run.report(report))

    def lost(self, attempt: "Attempt", found: InFlight | None, death: Death) -> None:
        """A worker is taken for dead; another one comes in its place."""
        attempt.buried = True
        self._idle += 1

        def lose() -> None:
            committed = read_done(attempt.path, self.run.run_id)
            before = Counter(self.run.coverage.kills)
            self.run.lost(attempt.lease, found, death)
            if found is not None and len(found.suspects) > 1:
                assert not attempt.lease.alone, "something was read ahead"
                assert self.run.coverage.kills == before, "nobody knows who it was"
            for unit in self.run.coverage.kills - before:
                self.world.deaths[self.run.run_id, *unit] += 1
            known = {shard.name for shard in self.run.coverage.shards.values()}
            assert not committed or committed.name in known, "it was done, and will be again"

        self._guarded(lose)

    def asked_to_stop(self) -> None:
        """SIGTERM."""

        def stop() -> None:
            self.stopped_at = self.world.now if self.stopped_at is None else self.stopped_at
            self.run.stop("asked to stop")

        self._guarded(stop)

    def crash(self, *, power_cut: bool) -> None:
        """Die. A power cut may take what was written after the last flush, too."""
        if self.outcome is None:
            self._end("crashed")
            if power_cut and hasattr(self, "run") and not self._is_superseded():
                path = ledger_path(self.world.run_dir, self.run.epoch)
                os.truncate(path, self.world.rng.randint(self._flushed, self._written()))
                self._forget_deaths()

    def _forget_deaths(self) -> None:
        """Nobody knows of those any more that the ledger has lost."""
        kills = read_coverage(self.world.run_dir, self.run.run_id).kills
        for run_id, first, stop in list(self.world.deaths):
            if run_id == self.run.run_id:
                self.world.deaths[run_id, first, stop] = kills[first, stop]

    def _guarded(self, action: Callable[[], None]) -> None:
        if self.outcome is not None:
            return
        superseded = self._written() if self._is_superseded() else None
        try:
            action()
            self._go_on()
        except (IdentityChanged, OwnershipLost, RunFailed, RunStopped, RunInUse) as error:
            self._end(error)
        untouched = superseded is None or superseded == self._written()
        assert untouched, "wrote after somebody else took over"

    def _is_superseded(self) -> bool:
        return hasattr(self, "run") and ledger_path(self.world.run_dir, self.run.epoch + 1).exists()

    def _written(self) -> int:
        return ledger_path(self.world.run_dir, self.run.epoch).stat().st_size

    def _start(self) -> None:
        world, n = self.world, len(self.items)
        found = Manifest.read(world.run_dir)
        owning = directory.own_run(
            world.run_dir,
            self._call.items(n),
            self.work,
            self._call.identity,
            self._config,
            resume=self._resume,
        )
        self.owned = self._stack.enter_context(owning)
        self._check_identity(found)
        self.plan, order = self.owned.plan, self.owned.order
        self.run = Run(
            world.run_dir,
            self.owned.manifest.run_id,
            self.plan,
            self.owned.ledger,
            self._config,
            workers=self._workers,
            durations=self.work.seconds(order),
            clock=lambda: world.now,
            name_of=lambda place: f"utt{order.position(place)}",
            order=order,
        )
        path = ledger_path(world.run_dir, self.run.epoch)
        self._flushed = path.read_bytes().index(b"\n") + 1
        self._failed_before = self._n_failed()
        world.log(
            self, f"starts, {self.plan}, {self._workers} workers, {self._config}, {self._call}"
        )
        self._check_replay()

    def _check_identity(self, found: Manifest | None) -> None:
        """It owns the run that it was called for; another one only as it was told to."""
        manifest = self.owned.manifest
        assert self._call.is_of(manifest, len(self.items))
        if found is not None and found.run_id == manifest.run_id:
            assert found.items == manifest.items, "another item list is never accepted"
            may_change = self._config.accept_changes or not self.world.locks
            assert may_change or found.identity == manifest.identity

    def _check_manifest(self) -> None:
        """Whoever lost the run while it was starting has not touched the owner's manifest."""
        if self.world.taken and self.world.alone and not self._is_superseded():
            manifest = Manifest.read(self.world.run_dir)
            assert manifest == self.owned.manifest, "somebody else wrote the manifest"

    def _go_on(self) -> None:
        self._check_manifest()
        if self._watched:
            self._check_sum()
        while self._idle and (lease := self.run.deal()):
            self._idle -= 1
            self.leases += 1
            assert self.run.coverage.can_accept(lease.first, lease.stop), "dealt twice"
            Attempt(self, lease).begin()
        if self.world.rng.random() < 0.5:
            self.run.flush()
            self._flushed = self._written()
        if self.run.over:
            self._finish()

    def _finish(self) -> None:
        self._check_replay()
        self.run.raise_if_failed()
        if self.plan.goal < self.plan.n_positions:
            first = self.owned.order.positions(0, self.plan.goal)
            assert sorted(first) == [*range(self.plan.goal)], "a limit is of the first items"
            self._end("limit reached")
            return
        directory.check_shards(self.owned)
        check_content(self.owned, self.items)
        directory.seal(self.owned)
        self._end("sealed")

    def _end(self, outcome: BaseException | str) -> None:
        self.world.log(self, "ends:", repr(outcome))
        for entry in getattr(outcome, "failures", ()):
            assert entry["utterance"] == f"utt{entry['position']}", "a place for a position"
        self.outcome = outcome
        if isinstance(outcome, OwnershipLost) and hasattr(self, "run"):
            assert self._is_superseded()
        if isinstance(outcome, IdentityChanged):
            self._check_refusal()
        elif hasattr(self, "run"):
            self._check_most_failures()
        self._stack.close()

    def _check_refusal(self) -> None:
        """It was refused for a reason, and began nothing."""
        manifest = Manifest.read(self.world.run_dir)
        assert not hasattr(self, "owned")
        assert manifest is not None
        assert not self._call.is_of(manifest, len(self.items))
        if self._config.accept_changes:
            assert manifest.items != digest_items(self._call.items(len(self.items)))

    def _check_most_failures(self) -> None:
        """`max_failures` ends a run; leases that were out then may fail once each."""
        limit = self._config.max_failures
        if limit is not None:
            assert self._n_failed() <= max(self._failed_before, limit) + self._workers

    def _n_failed(self) -> int:
        return sum(position < self.plan.goal for position in self.run.coverage.failed)

    def _check_sum(self) -> None:
        """Every position of the goal is done, failed, out or still to be dealt: one of these."""
        goal, coverage = self.plan.goal, self.run.coverage
        not_accepted = sum(stop - first for first, stop in coverage.accepted.gaps(0, goal))
        failed = sum(position < goal for position in coverage.failed)
        assert self.run.n_left + failed == not_accepted

    def _check_replay(self) -> None:
        """The disk tells the same as memory, as long as nobody else has taken over."""
        if not self._is_superseded():
            replayed = read_coverage(self.world.run_dir, self.run.run_id)
            assert as_data(replayed) == as_data(self.run.coverage)


def check_content(owned: directory.OpenRun, items: Items) -> None:
    """What the accepted shards hold is every position once, but for the failed ones."""
    coverage, order, found = owned.ledger.coverage, owned.order, []
    for shard in coverage.shards_in_order():
        content = json.loads((owned.run_dir / shard.name / CONTENT).read_text())
        assert content["run"] == owned.manifest.run_id, f"{shard} is another run's"
        held = [p for first, stop in content["units"] for p in range(first, stop)]
        assert held == list(range(shard.first, shard.stop)), f"{shard} holds {held}"
        positions = [*order.positions(shard.first, shard.stop)]
        assert content["positions"] == positions, f"{shard} was done in another order"
        found += positions
    failed = {order.position(place) for place in coverage.failed}
    assert sorted(found) == [p for p in range(len(items)) if p not in failed]


def as_data(coverage: Coverage) -> dict[str, Any]:
    """A coverage as something to compare."""
    return {
        "accepted": list(coverage.accepted),
        "shards": coverage.shards,
        "failed": coverage.failed,
        "kills": dict(coverage.kills),
        "split": list(coverage.split),
        "sealed": coverage.sealed,
    }
