"""A worker that died while it was at several units: one did it, and nobody knows which.

It works on one, reads others ahead, and writes one behind. None of them is charged. Each is dealt
again alone, and where a unit is alone nothing goes on beside it, so that the next death is charged
to the one that did it. That comes to an end: each death of this kind is followed by one that is
charged, or by units that are done.
"""

import logging
from collections.abc import Callable

from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.dealer import Dealer, Lease
from espnet3.parallel.engine.marker import InFlight
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.positions import PositionSet
from espnet3.parallel.wording import printable

logger = logging.getLogger(__name__)

MOST_UNEXPLAINED = 3  # such deaths for which no unit was charged, after which none overlap


class Suspects:
    """Deals again what may have ended a worker.

    Args:
        plan: the units.
        dealer: what is to be done again goes back there.
        name_of: how the item at a position is called.
        max_kills: after so many deaths a batch is taken apart.
    """

    def __init__(
        self, plan: Plan, dealer: Dealer, name_of: Callable[[int], str], max_kills: int
    ) -> None:
        self._plan = plan
        self._dealer = dealer
        self._name_of = name_of
        self._max_kills = max_kills
        self._n_unexplained = 0

    def deal_alone(self, lease: Lease, found: InFlight) -> bool:
        """Deal the units of a lease again, each suspect alone; False if only one unit can be it."""
        suspects = self._units(found, lease.first, lease.stop)
        if lease.alone or len(suspects) < 2:
            return False
        logger.warning(
            "it may have died of %s: one was worked on while others were read or written; each is "
            "done alone now",
            " or ".join(printable(self._name_of(position)) for position, _ in suspects),
        )
        self._n_unexplained += 1
        if self._n_unexplained == MOST_UNEXPLAINED:  # perhaps it is no item, but two at once
            self._dealer.may_overlap = False
            logger.warning(
                "%d workers died while they were at several items: in this run, nothing is read "
                "ahead or written behind any more",
                MOST_UNEXPLAINED,
            )
        first = lease.first
        for position, stop in suspects:
            self._dealer.give_back(first, position)
            self._dealer.give_back_alone(position, stop)
            first = stop
        self._dealer.give_back(first, lease.stop)
        return True

    def explained(self) -> None:
        """A unit that was alone has killed its worker: that may be the one that was looked for."""
        self._n_unexplained = max(0, self._n_unexplained - 1)

    def from_before(self, found: InFlight, coverage: Coverage) -> tuple[int, int] | None:
        """A former driver died while it was at that, in process.

        Args:
            found: what it was at.
            coverage: what is done and failed so far.

        Returns:
            The unit to be charged, which is taken out; None if there is none, or several may be it.
            Those are done alone, and this start does one after the other: it would die with its
            worker.
        """
        ranges = PositionSet(coverage.remaining(self._plan.goal))
        if len(found.suspects) > 1:
            self._dealer.may_overlap = False
            logger.warning(
                "the last start died while it was at several items; this one reads nothing ahead "
                "and writes nothing behind"
            )
        for position in found.suspects:
            if position not in ranges:
                continue
            stop = self._plan.unit_stop(position, ranges.range_at(position)[1])
            if coverage.is_taken_apart(position, self._max_kills):
                stop = position + 1
            ranges.remove(position, stop)
            self._dealer.take_out(position, stop)
            name = printable(self._name_of(position))
            if len(found.suspects) == 1:
                logger.warning("the last start died in %s; it is done alone", name)
                return position, stop
            logger.warning("perhaps it died in %s; it is done alone", name)
            self._dealer.give_back_alone(position, stop)
        return None

    def _units(self, found: InFlight, first: int, stop: int) -> list[tuple[int, int]]:
        """The units in [first, stop) that may have done it."""
        suspects = []
        for position in found.suspects:
            if first <= position < stop:
                first = self._plan.unit_stop(position, stop)
                suspects.append((position, first))
        return suspects
