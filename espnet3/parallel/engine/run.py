"""One run, seen by its owner: what to hand out, what came back, when it is complete."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from espnet3.errors import RunFailed, RunStopped
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine import failures
from espnet3.parallel.engine.coverage import Coverage, Shard, shard_entries
from espnet3.parallel.engine.dealer import Dealer, Lease
from espnet3.parallel.engine.ledger import Ledger
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.positions import PositionSet
from espnet3.parallel.engine.progress import Progress
from espnet3.parallel.engine.report import KILLED, LeaseReport, UnitFailure
from espnet3.parallel.engine.shards import ShardNaming, read_done, shard_name

logger = logging.getLogger(__name__)

ALIKE = 3  # so many equal failures without one success stop a run: it is the setup, not the data
IDLE_DEATHS = 3  # so many workers in a row that die before their first unit stop a run


class Run:
    """The state machine of a run. One thread, the driver's, calls it; time comes from `clock`.

    Executors ask `deal` for a worker, hand its outcome to `report`, and tell of deaths with
    `lost`, until `over`. Then `raise_if_failed` says whether a merge may follow.
    """

    def __init__(
        self,
        run_dir: Path,
        run_id: str,
        plan: Plan,
        ledger: Ledger,
        config: RunConfig,
        *,
        workers: int = 1,
        durations: Sequence[float] | None = None,
        name_of: Callable[[int], str] = "#{}".format,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run_dir = run_dir
        self.run_id = run_id
        self.plan = plan
        self.config = config
        self.naming = ShardNaming(plan.n_positions, ledger.epoch)
        self.first_exception: BaseException | None = None
        self.n_workers = workers
        self._ledger = ledger
        self._clock = clock
        self._name_of = name_of
        self._began: float | None = None
        self._progress: Progress | None = None
        self._seconds, self._counted = 0.0, 0  # in `forward` and positions, accepted in this epoch
        self._stop_reason: str | None = None
        self._fatal: UnitFailure | None = None
        self._failure_log = failures.FailureLog(run_dir)
        self._n_failed = sum(position < plan.goal for position in self.coverage.failed)
        self._errors = Counter(e["error"] for p, e in self.coverage.failed.items() if p < plan.goal)
        self._had_success = bool(len(self.coverage.accepted))
        self._idle_deaths = 0
        self._dealer = Dealer(
            plan,
            self.coverage.remaining(plan.goal),
            lease_seconds=config.lease_seconds,
            workers=workers,
            durations=durations,
        )

    @property
    def coverage(self) -> Coverage:
        """What is accepted and failed so far."""
        return self._ledger.coverage

    @property
    def epoch(self) -> int:
        """This start's number."""
        return self._ledger.epoch

    @property
    def over(self) -> bool:
        """Nothing is out with a worker, and nothing is left or the run is stopping."""
        return not self._dealer.out and (self.stopping or self._dealer.n_left == 0)

    @property
    def stopping(self) -> bool:
        """No more leases are handed out."""
        return self._stop_reason is not None

    @property
    def n_left(self) -> int:
        """Positions that are neither done nor failed, those in flight included."""
        return self._dealer.n_left + sum(lease.stop - lease.first for lease in self._dealer.out)

    def deal(self) -> Lease | None:
        """The next lease, or None if there is none now (another may come back while not `over`)."""
        if self.stopping:
            return None
        if self._began is None:
            self._began = self._clock()
            self._progress = Progress(self.plan.goal, self._n_done(), self._began)
        return self._dealer.deal(self._clock() - self._began, self._seconds / max(1, self._counted))

    def report(self, report: LeaseReport) -> None:
        """Take the outcome of a lease over: into the ledger first.

        A report about a lease that was given up before is ignored; its shard is never named.
        """
        try:
            lease = self._dealer.settle(report.lease)
        except KeyError:
            logger.warning("late report from %s ignored (%s)", report.worker, report.shard)
            return
        if report.failure or report.fatal:  # a newer owner may be why
            self._ledger.check_owner()
        if report.shard:
            self._accept(report.shard)
        if report.redo:
            self._dealer.give_back(*report.redo)
        if report.suspect:
            self._dealer.give_back_alone(*report.suspect)
        if report.failure:
            self._take_failure(report.failure, report.worker)
        if report.fatal:
            self._take_fatal(report.fatal, report.worker)
        self._return_rest(lease, report.next)
        self._say_how_far()

    def lost(self, lease: Lease, in_flight: int | None) -> None:
        """The worker that held `lease` is gone.

        Args:
            lease: its lease.
            in_flight: the position it had begun last, or None if it had begun none.
        """
        try:
            self._dealer.settle(lease.number)
        except KeyError:
            return
        name = shard_name(self.naming.shard_id(lease.first, lease.number))
        committed = read_done(self.run_dir / name, self.run_id)
        if committed:
            self._accept(committed)
            self._return_rest(lease, committed.stop)
            return
        if in_flight is None:
            self._return_rest(lease, lease.first)
            self.lost_idle()
            return
        stop = lease.stop if lease.alone else self.plan.unit_stop(in_flight, lease.stop)
        self._dealer.give_back(lease.first, in_flight)
        self._suspect(in_flight, stop)
        self._dealer.give_back(stop, lease.stop)

    def suspect_from_before(self, position: int) -> None:
        """A former driver died while it had `position` in hand, in process."""
        ranges = PositionSet(self.coverage.remaining(self.plan.goal))
        if position not in ranges:
            return
        stop = self.plan.unit_stop(position, ranges.range_at(position)[1])
        self._dealer.take_out(position, stop)
        logger.warning("the last start died in %s; it is done alone", self._name_of(position))
        self._suspect(position, stop)

    def lost_idle(self) -> None:
        """A worker is gone that had begun no unit: nobody is to blame, but it may not go on."""
        self._idle_deaths += 1
        if self._idle_deaths >= IDLE_DEATHS * self.n_workers:
            self.stop(f"{self._idle_deaths} workers in a row died without an item in hand")

    def stop(self, reason: str) -> None:
        """Hand out no more leases; the first reason given stays."""
        if self._stop_reason is None:
            logger.warning("stopping: %s", reason)
            self._stop_reason = reason

    def raise_if_failed(self) -> None:
        """Raise what ended this run badly, from the original exception.

        Raises:
            RunFailed: items failed and `on_error` is not `skip`.
            RunStopped: the run could not go on, or is not complete.
        """
        goal = self.plan.goal
        failed = {p: e for p, e in self.coverage.failed.items() if p < goal}
        done = self._n_done()
        if self._fatal:
            raise RunStopped(
                f"{self._fatal.step} failed, which is no single item's fault: "
                f"{self._fatal.error}: {self._fatal.message}\n{done} of {goal} items are done and "
                f"kept in {self.run_dir}; mend the cause and run the same command again."
            ) from self._fatal.exception
        if failed and (self.config.on_error != "skip" or self.stopping):
            error: RunFailed = failures.run_failed(
                self.run_dir, failed, done, goal, self._stop_reason
            )
            raise error from self.first_exception
        if self.n_left:
            raise RunStopped(
                f"{self._stop_reason or 'the run ended early'}; {done} of {goal} items are done "
                f"and kept in {self.run_dir}; run the same command again to go on."
            )

    def flush(self) -> None:
        """Make all that was reported durable; executors call it when they have a moment."""
        self._ledger.flush()

    def check_owner(self) -> None:
        """Stop here if another driver has taken the run over; the ledger asks before each line.

        Raises:
            OwnershipLost: if one has.
        """
        self._ledger.check_owner()

    def _accept(self, shard: Shard) -> None:
        self._ledger.append(*shard_entries(shard, self.plan))
        self._had_success = True
        self._idle_deaths = 0
        self._seconds += shard.forward_seconds
        self._counted += shard.stop - shard.first

    def _n_done(self) -> int:
        return self.plan.goal - self.n_left - self._n_failed

    def _say_how_far(self) -> None:
        if self._progress is not None:
            line = self._progress.line(self._n_done(), len(self.coverage.failed), self._clock())
            if line:
                logger.info("%s", line)

    def _return_rest(self, lease: Lease, first: int) -> None:
        if first >= lease.stop:
            return
        if lease.alone:
            self._dealer.give_back_alone(first, lease.stop)
        else:
            self._dealer.give_back(first, lease.stop)

    def _take_failure(self, failure: UnitFailure, worker: str) -> None:
        if failure.stop - failure.first > 1:
            self._split(failure.first, failure.stop)
            self._failure_log.append(failure, worker, self.epoch)
            return
        if self.first_exception is None:
            self.first_exception = failure.exception
        self._ledger.append(failures.ledger_entry(failure, failure.first))
        self._failure_log.append(failure, worker, self.epoch)
        self._n_failed += 1
        self._errors[failure.error] += 1
        logger.error(
            "%s (position %d) failed in %s: %s: %s",
            failure.utterance,
            failure.first,
            failure.step,
            failure.error,
            failure.message,
        )
        self._stop_if_hopeless()

    def _take_fatal(self, failure: UnitFailure, worker: str) -> None:
        self._failure_log.append(failure, worker, self.epoch)
        self._fatal = self._fatal or failure
        self.stop(f"{failure.step} failed: {failure.error}: {failure.message}")

    def _split(self, first: int, stop: int) -> None:
        """Deal a failed batch again as two halves, until the bad item stands alone."""
        self._ledger.append({"kind": "split", "first": first, "last": stop - 1})
        middle = (first + stop) // 2
        self._dealer.give_back_alone(first, middle)
        self._dealer.give_back_alone(middle, stop)

    def _suspect(self, first: int, stop: int) -> None:
        """A worker died in this unit: it is dealt again alone; after `max_kills` deaths a batch is
        taken apart, and a single item is given up."""
        self._ledger.append({"kind": "killed", "first": first, "last": stop - 1})
        kills = self.coverage.kills[first, stop]
        if kills < self.config.max_kills:
            self._dealer.give_back_alone(first, stop)
        elif stop - first > 1:
            self._ledger.append({"kind": "split", "first": first, "last": stop - 1})
            for position in range(first, stop):
                self._dealer.give_back_alone(position, position + 1)
        else:
            what = f"{kills} workers died while they worked on this item"
            name = self._name_of(first)
            failure = UnitFailure(first, stop, name, "forward", KILLED, what, "")
            self._take_failure(failure, "")

    def _stop_if_hopeless(self) -> None:
        limit = self.config.max_failures
        if limit is None:
            limit = max(10, self.plan.goal // 100)
        if self.config.on_error == "raise":
            self.stop("on_error is raise")
        elif self._n_failed > limit:
            self.stop(f"more than max_failures = {limit} items failed")
        elif self._n_failed >= ALIKE and not self._had_success and len(self._errors) == 1:
            error = next(iter(self._errors))
            self.stop(f"the first {self._n_failed} items all failed with {error}")
