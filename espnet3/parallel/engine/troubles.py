"""What went wrong in a run: failed items, workers that died, and when to stop because of it."""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from espnet3.errors import RunStopped
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine import failures
from espnet3.parallel.engine.dealer import Dealer
from espnet3.parallel.engine.events import DRAINING, EventLog
from espnet3.parallel.engine.ledger import Ledger
from espnet3.parallel.engine.order import AS_GIVEN, Order
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.report import HUNG, KILLED, UnitFailure
from espnet3.parallel.wording import first_line, printable, unless_resuming

logger = logging.getLogger(__name__)

ALIKE = 3  # so many equal failures without one success stop a run: it is the setup, not the data
IDLE_DEATHS = 3  # so many workers in a row that die before their first unit stop a run


class Troubles:
    """Keeps account of failures and decides what they lead to.

    Args:
        run_dir: the run's directory.
        plan: the units.
        config: how many failures of which kind are borne.
        ledger: every decision is written there first.
        dealer: what is to be done again goes back there.
        name_of: how the item at a place is called.
        events: is told when it stops.
        order: which position a place is; people are told positions.
    """

    def __init__(
        self,
        run_dir: Path,
        plan: Plan,
        config: RunConfig,
        ledger: Ledger,
        dealer: Dealer,
        name_of: Callable[[int], str],
        events: EventLog,
        order: Order = AS_GIVEN,
    ) -> None:
        self.stop_reason: str | None = None
        self._events = events
        self.first_exception: BaseException | None = None
        self._run_dir = run_dir
        self._plan = plan
        self._config = config
        self._ledger = ledger
        self._dealer = dealer
        self._name_of = name_of
        self._order = order
        self._log = failures.FailureLog(run_dir, order)
        self._fatal: UnitFailure | None = None
        failed = [e for p, e in ledger.coverage.failed.items() if p < plan.goal]
        self.n_failed = len(failed)
        self._errors = Counter(entry["error"] for entry in failed)
        self._had_success = bool(len(ledger.coverage.accepted))
        self._idle_deaths = 0

    def stop(self, reason: str) -> None:
        """End the run as soon as it can; the first reason given stays."""
        if self.stop_reason is None:
            logger.warning("stopping: %s", reason)
            self.stop_reason = reason
            self._events.state(DRAINING, reason)

    def success(self) -> None:
        """A shard was accepted: the setup works."""
        self._had_success = True
        self._idle_deaths = 0

    def failed(self, failure: UnitFailure, worker: str) -> None:
        """A unit failed: one item is given up, a batch is taken apart."""
        failure = self._named(failure)
        first, stop = failure.first, failure.stop
        if stop - first > 1:
            self._ledger.append({"kind": "split", "first": first, "last": stop - 1})
            middle = (first + stop) // 2
            self._dealer.give_back_alone(first, middle)
            self._dealer.give_back_alone(middle, stop)
            self._log.append(failure, worker, self._ledger.epoch)
            return
        if self.first_exception is None:
            self.first_exception = failure.exception
        self._ledger.append(failures.ledger_entry(failure, first))
        self._log.append(failure, worker, self._ledger.epoch)
        self.n_failed += 1
        self._errors[failure.error] += 1
        logger.error(
            "%s (position %d) failed%s: %s: %s",
            printable(failure.utterance),
            self._order.position(first),
            f" in {failure.step}" if failure.step else "",
            failure.error,
            first_line(failure.message),
        )
        self._stop_if_hopeless()

    def fatal(self, failure: UnitFailure, worker: str) -> None:
        """Something failed that other items would meet as well, such as a full disk."""
        failure = self._named(failure)
        self._log.append(failure, worker, self._ledger.epoch)
        self._fatal = self._fatal or failure
        self.stop(f"{failure.step} failed: {failure.error}: {first_line(failure.message)}")

    def _named(self, failure: UnitFailure) -> UnitFailure:
        """Call an item as the driver does where its worker knew the position alone."""
        if failure.utterance == f"#{failure.first}":
            with suppress(Exception):  # the user's code, for no more than a message
                return replace(failure, utterance=self._name_of(failure.first))
            return replace(failure, utterance=f"#{self._order.position(failure.first)}")
        return failure

    def killed(self, first: int, stop: int, how: str, worker: str = "", log: str = "") -> None:
        """A worker died in the unit [first, stop).

        It is dealt again alone; after `max_kills` deaths a batch is taken apart, and a single item
        is given up.

        Args:
            first: the unit's first position.
            stop: one past its last position.
            how: it died, in words; "" if unknown.
            worker: its name.
            log: its log file.
        """
        if kills := self._is_given_up(first, stop):
            died = "1 worker" if kills == 1 else f"{kills} workers"
            last = f" ({'' if kills == 1 else 'the last one '}{how})" if how else ""
            what = f"{died} died in this item{last}"
            self.failed(self._without_exception(first, stop, KILLED, what, log), worker)

    def poisoned(self, failure: UnitFailure, worker: str) -> None:
        """A CUDA error in a unit made its worker's process useless, which counts as its death.

        Whatever the process had done after it would have failed as well.
        """
        failure = self._named(failure)
        first, stop, error = failure.first, failure.stop, f"{failure.error}: {failure.message}"
        if kills := self._is_given_up(first, stop):
            lost = f"{kills} processes" if kills > 1 else "a process"
            what = f"{lost} lost the GPU in this item; {error}"
            self.failed(replace(failure, error=KILLED, message=what), worker)
            return
        self._log.append(failure, worker, self._ledger.epoch)
        logger.warning(
            "worker %s cannot use its GPU any more after %s in %s, so its process ends; that is "
            "done again alone, in another one",
            worker, first_line(error), printable(failure.utterance),
        )  # fmt: skip

    def _is_given_up(self, first: int, stop: int) -> int:
        """Count a death in a unit, and deal it again if that may be; otherwise, how many it was."""
        self._ledger.append({"kind": "killed", "first": first, "last": stop - 1})
        kills = self._ledger.coverage.kills[first, stop]
        if kills < self._config.max_kills:
            self._dealer.give_back_alone(first, stop)
        elif stop - first > 1:
            self._ledger.append({"kind": "split", "first": first, "last": stop - 1})
            for position in range(first, stop):
                self._dealer.give_back_alone(position, position + 1)
        else:
            return kills
        return 0

    def hung(self, first: int, stop: int, worker: str, log: str, stack: str) -> None:
        """A worker was ended because the unit [first, stop) took longer than `unit_timeout`.

        Args:
            first: the unit's first position.
            stop: one past its last position.
            worker: its name.
            log: its log file.
            stack: where it was then, formatted like a traceback; "" if unknown.
        """
        what = f"it took longer than unit_timeout = {self._config.unit_timeout:g} s"
        if stack:
            what += f", in {failures.ends_of(stack)}; all threads in {log}"
        self.failed(self._without_exception(first, stop, HUNG, what, log, stack), worker)

    def died_idle(self, n_workers: int, death: str) -> None:
        """A worker died that had begun no unit: nobody is to blame, but it may not go on.

        Args:
            n_workers: how many there are to be.
            death: what is known of it, in words.
        """
        self._idle_deaths += 1
        if self._idle_deaths >= IDLE_DEATHS * n_workers:
            n = self._idle_deaths
            self.stop(f"{n} workers in a row died without an item in hand; the last one, {death}")

    def raise_if_failed(self, n_left: int) -> None:
        """Raise what ended this run badly, from the original exception.

        Raises:
            RunFailed: items failed and `on_error` is not `skip`.
            RunStopped: the run could not go on, or is not complete.
        """
        goal = self._plan.goal
        failed = [
            {**entry, "position": self._order.position(place)}
            for place, entry in self._ledger.coverage.failed.items()
            if place < goal
        ]
        done = goal - n_left - self.n_failed
        once_more = f"again{unless_resuming(self._config.resume)}"
        if self._fatal:
            raise RunStopped(
                f"{self._fatal.step} failed, which stops a run: {self._fatal.error}: "
                f"{first_line(self._fatal.message)}\n{done} of {goal} items are done and kept in "
                f"{self._run_dir}; mend the cause and run the same command {once_more}.\n"
                f"Traceback: {self._log.path}."
            ) from self._fatal.exception
        if failed and (self._config.on_error != "skip" or self.stop_reason is not None):
            raise failures.run_failed(
                self._run_dir, failed, done, goal, self.stop_reason, self._config
            ) from self.first_exception
        if n_left:
            raise RunStopped(
                f"{self.stop_reason or 'the run ended early'}; {done} of {goal} items are done "
                f"and kept in {self._run_dir}; run the same command {once_more} to go on."
            )

    def _without_exception(
        self, first: int, stop: int, error: str, what: str, log: str, stack: str = ""
    ) -> UnitFailure:
        # Whether it was in forward or in write_record, nobody knows.
        return UnitFailure(first, stop, self._name_of(first), "", error, what, stack, log=log)

    def _stop_if_hopeless(self) -> None:
        limit = self._config.max_failures
        if limit is None:
            limit = max(10, self._plan.goal // 100)
        if self._config.on_error == "raise":
            self.stop("on_error is raise")
        elif self.n_failed > limit:
            self.stop(f"more than max_failures = {limit} items failed")
        elif self.n_failed >= ALIKE and not self._had_success and len(self._errors) == 1:
            error = next(iter(self._errors))
            self.stop(f"the first {self.n_failed} items all failed with {error}")
