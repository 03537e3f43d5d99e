"""One run, seen by its owner: what to hand out, what came back, when it is complete."""

import logging
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine.coverage import Coverage, Shard, shard_entries
from espnet3.parallel.engine.dealer import Dealer, Lease
from espnet3.parallel.engine.death import UNKNOWN, Death
from espnet3.parallel.engine.events import NOWHERE, EventLog
from espnet3.parallel.engine.lease_events import dealt, lost, reported
from espnet3.parallel.engine.ledger import Ledger
from espnet3.parallel.engine.lengths import Lengths
from espnet3.parallel.engine.memory_advice import MemoryAdvice
from espnet3.parallel.engine.order import AS_GIVEN, Order
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.positions import PositionSet
from espnet3.parallel.engine.report import LeaseReport
from espnet3.parallel.engine.shards import ShardNaming, read_done, shard_name
from espnet3.parallel.engine.tally import Tally
from espnet3.parallel.engine.troubles import Troubles
from espnet3.parallel.wording import printable

logger = logging.getLogger(__name__)

SUM_EVERY = 0.5  # seconds between two times that the audio that is left is summed up


class Run:
    """The state machine of a run. One thread, the driver's, calls it; time comes from `clock`.

    Executors ask `deal` for a worker, hand its outcome to `report`, and tell of deaths with
    `lost`, until `over`. Then `raise_if_failed` says whether a merge may follow. All positions
    here are places in the run's order; `name_of` is asked for those, `durations` are given by them.
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
        events: EventLog = NOWHERE,
        order: Order = AS_GIVEN,
    ) -> None:
        self.run_dir = run_dir
        self.run_id = run_id
        self.plan = plan
        self.config = config
        self.naming = ShardNaming(plan.n_positions, ledger.epoch)
        self.n_workers = workers
        self.events = events
        self.order = order
        self._ledger = ledger
        self._clock = clock
        self.name_of = name_of
        self._began: float | None = None
        self.tally = Tally(plan.goal, workers)
        """Of the work since this start."""
        self._audio_left: tuple[float, float] | None = None
        """Seconds of audio that are left, and when that was summed up."""
        self._lengths = None if durations is None else Lengths(durations)
        self._dealer = Dealer(
            plan,
            self.coverage.remaining(plan.goal),
            lease_seconds=config.lease_seconds,
            workers=workers,
            lengths=self._lengths,
        )
        self._troubles = Troubles(
            run_dir, plan, config, ledger, self._dealer, name_of, events, order
        )
        self._memory = MemoryAdvice(events)

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
        return self._troubles.stop_reason is not None

    @property
    def n_workers_needed(self) -> int:
        """How many can be busy at once: those that are, and one for each unit that is left."""
        left = 0 if self.stopping else self._dealer.n_units_left
        return len(self._dealer.out) + left

    @property
    def n_left(self) -> int:
        """Positions that are neither done nor failed, those in flight included."""
        return self._dealer.n_left + sum(lease.stop - lease.first for lease in self._dealer.out)

    def deal(self, worker: str = "", *, suspects: bool = True) -> Lease | None:
        """The next lease, or None if there is none now (another may come back while not `over`).

        Args:
            worker: who will have it, for the event log.
            suspects: whether it may be what is to be done alone.
        """
        if self.stopping:
            return None
        if self._began is None:
            self._began = self._clock()
            self.tally.begin(self._began, self._n_done(), self.audio_left)
            self._say_how_far()
        now = self._clock()
        lease = self._dealer.deal(
            now - self._began, self.tally.seconds_per_position, alone_too=suspects
        )
        if lease is not None:
            self.tally.pace.dealt(lease.number, now)
            dealt(self.events, lease, worker)
        return lease

    def report(self, report: LeaseReport) -> None:
        """Take the outcome of a lease over: into the ledger first.

        A report about a lease that was given up before is ignored; its shard is never named.
        """
        try:
            lease = self._dealer.settle(report.lease)
        except KeyError:
            logger.warning("late report from %s ignored (%s)", report.worker, report.shard)
            return
        if report.failure or report.fatal or report.poisoned:  # a newer owner may be why
            self._ledger.check_owner()
        self._count(lease, report.shard)
        if report.shard:
            self._accept(report.shard)
        if report.redo and report.redo[0] < report.redo[1]:
            self._dealer.give_back(*report.redo)
        if report.suspect:
            self._dealer.give_back_alone(*report.suspect)
        if report.unclosed:
            self._halve(*report.unclosed)
        if report.memory:
            self._memory.heard(report.memory, report.worker)
        if report.failure:
            self._troubles.failed(report.failure, report.worker)
        if report.poisoned:
            self._troubles.poisoned(report.poisoned, report.worker)
        if report.fatal:
            self._troubles.fatal(report.fatal, report.worker)
        self._return_rest(lease, report.next)
        reported(self.events, lease, report, self._lengths)
        self._say_how_far()

    def told(self, lease: Lease) -> str:
        """The items of a lease in words."""
        positions = self.order.positions(lease.first, lease.stop)
        if len(positions) == 1:
            return f"position {positions[0]}"
        if self.order:  # they are no neighbours
            return f"{len(positions)} items, the first at position {positions[0]},"
        return f"positions {positions[0]}-{positions[-1]}"

    def lost(self, lease: Lease, in_flight: int | None, death: Death = UNKNOWN) -> None:
        """The worker that held `lease` is gone.

        Args:
            lease: its lease.
            in_flight: the place it had begun last, or None if it had begun none.
            death: what is known of its end.
        """
        try:
            self._dealer.settle(lease.number)
        except KeyError:
            return
        name = shard_name(self.naming.shard_id(lease.first, lease.number))
        committed = read_done(self.run_dir / name, self.run_id)
        lost(self.events, lease, in_flight, death, committed)
        self._count(lease, committed)
        if committed:
            self._accept(committed)
            self._return_rest(lease, committed.stop)
            return
        if in_flight is None or death.by_driver_at not in (None, in_flight):
            self._return_rest(lease, lease.first)
            if death.by_driver_at is None:
                self._count_idle_death(death)
            return
        stop = lease.stop if lease.alone else self.plan.unit_stop(in_flight, lease.stop)
        self._dealer.give_back(lease.first, in_flight)
        if death.by_driver_at is None:
            self._troubles.killed(in_flight, stop, death.how, death.worker, death.log)
        else:
            self._troubles.hung(in_flight, stop, death.worker, death.log, death.stack)
        self._dealer.give_back(stop, lease.stop)

    def suspect_from_before(self, position: int) -> None:
        """A former driver died while it had `position` in hand, in process."""
        ranges = PositionSet(self.coverage.remaining(self.plan.goal))
        if position not in ranges:
            return
        stop = self.plan.unit_stop(position, ranges.range_at(position)[1])
        if self._was_taken_apart(position):
            stop = position + 1
        self._dealer.take_out(position, stop)
        logger.warning(
            "the last start died in %s; it is done alone", printable(self.name_of(position))
        )
        self._troubles.killed(position, stop, "it was the driver itself")

    def _was_taken_apart(self, position: int) -> bool:
        """Whether a batch with that position has killed so many that its items were dealt alone."""
        return any(
            first <= position < stop and n >= self.config.max_kills
            for (first, stop), n in self.coverage.kills.items()
            if stop - first > 1
        )

    def lost_idle(self, death: Death) -> None:
        """A worker is gone that had begun no unit: nobody is to blame, but it may not go on.

        One that was told to end does not count: that is how whoever owns the machine takes it away.
        """
        if not death.told_to_end:
            logger.warning("%s", death.told(self.run_dir))
        self._count_idle_death(death)

    def seconds_of(self, lease: Lease) -> "array[float] | None":
        """Seconds of audio of each position of a lease; None if unknown, or if units are items."""
        if self._lengths is None or self.plan.batch_size is None:
            return None
        return self._lengths.each(lease.first, lease.stop)

    @property
    def audio(self) -> float:
        """Seconds of audio in all that is to be done, or was; 0 where the data does not know."""
        return 0.0 if self._lengths is None else self._lengths.of(0, self.plan.goal)

    @property
    def audio_left(self) -> float:
        """Seconds of audio in what is neither done nor failed; 0 where the data does not know."""
        if self._lengths is None:
            return 0.0
        return self._lengths.total(self.coverage.remaining(self.plan.goal))

    @property
    def pace(self) -> str:
        """The audio that was done in this epoch, in words; "" where the data knows no durations."""
        return self.tally.audio_pace

    def stop(self, reason: str) -> None:
        """Hand out no more leases; the first reason given stays."""
        self._troubles.stop(reason)

    def raise_if_failed(self) -> None:
        """Raise what ended this run badly, from the original exception.

        Raises:
            RunFailed: items failed and `on_error` is not `skip`.
            RunStopped: the run could not go on, or is not complete.
        """
        self._troubles.raise_if_failed(self.n_left)

    def flush(self) -> None:
        """Make all that was reported durable; executors call it when they have a moment."""
        self._ledger.flush()
        self.events.flush()

    def check_owner(self) -> None:
        """Stop here if another driver has taken the run over; the ledger asks before each line.

        Raises:
            OwnershipLost: if one has.
        """
        self._ledger.check_owner()

    def _count_idle_death(self, death: Death) -> None:
        if not death.told_to_end:
            self._troubles.died_idle(self.n_workers, death.told(self.run_dir))

    def _accept(self, shard: Shard) -> None:
        self._ledger.append(*shard_entries(shard, self.plan))
        self._troubles.success()

    def _n_done(self) -> int:
        return self.plan.goal - self.n_left - self._troubles.n_failed

    def _count(self, lease: Lease, shard: Shard | None) -> None:
        audio = 0.0
        if shard is not None and self._lengths is not None:
            audio = self._lengths.of(shard.first, shard.stop)
        self.tally.back(lease.number, shard, self._clock(), audio)

    def progress_line(self) -> str:
        """How far it is, in one line; "" before work began. Any thread may ask."""
        return self.tally.line(self._clock())

    def _say_how_far(self) -> None:
        """Called at each report, so it must not count anything that grows with workers or items."""
        now = self._clock()
        if self._audio_left is None or now - self._audio_left[1] >= SUM_EVERY:
            self._audio_left = self.audio_left, now
        self.tally.stand(now, self._troubles.n_failed, self._audio_left[0])

    def _halve(self, first: int, stop: int) -> None:
        """Deal [first, stop) again as two shards, until the unit that breaks them stands alone."""
        middle = self.plan.align(first, (first + stop) // 2, stop)
        if middle >= stop:
            middle = self.plan.unit_stop(first, stop)
        self._dealer.give_back_next(first, middle, stop)

    def _return_rest(self, lease: Lease, first: int) -> None:
        if first >= lease.stop:
            return
        if lease.alone:
            self._dealer.give_back_alone(first, lease.stop)
        else:
            self._dealer.give_back(first, lease.stop)
