"""What the event log, and the log, says of leases."""

from espnet3.parallel.engine.coverage import Shard
from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.death import Death
from espnet3.parallel.engine.events import RUNNING, EventLog
from espnet3.parallel.engine.lengths import Lengths
from espnet3.parallel.engine.order import Order
from espnet3.parallel.engine.report import LeaseReport


def told(lease: Lease, order: Order) -> str:
    """The items of a lease in words."""
    positions = order.positions(lease.first, lease.stop)
    if len(positions) == 1:
        return f"position {positions[0]}"
    if order:  # they are no neighbours
        return f"{len(positions)} items, the first at position {positions[0]},"
    return f"positions {positions[0]}-{positions[-1]}"


def dealt(events: EventLog, lease: Lease, worker: str) -> None:
    """A worker has a lease from now on."""
    events.state(RUNNING)
    events.tell("dealt", lease=lease.number, worker=worker, first=lease.first, stop=lease.stop)


def reported(events: EventLog, lease: Lease, report: LeaseReport, lengths: Lengths | None) -> None:
    """A worker is done with a lease; `lengths` tell how much audio that was."""
    shard, failure = report.shard, report.failure or report.fatal or report.poisoned
    audio = None
    if shard is not None and lengths is not None:
        audio = round(lengths.of(shard.first, shard.stop), 3)
    events.tell(
        "reported",
        lease=report.lease,
        worker=report.worker,
        first=lease.first,
        stop=lease.stop,
        next=report.next,
        shard=shard.name if shard else None,
        done=shard.stop - shard.first if shard else 0,
        seconds=round(shard.forward_seconds, 6) if shard else None,
        audio=audio,
        failed=[failure.first, failure.stop] if failure else None,
        redo=report.redo or report.unclosed,
    )


def lost(
    events: EventLog, lease: Lease, in_flight: int | None, death: Death, committed: Shard | None
) -> None:
    """The worker that had a lease is gone; it may have committed a shard before."""
    events.tell(
        "lost",
        lease=lease.number,
        worker=death.process,
        first=lease.first,
        stop=lease.stop,
        in_flight=in_flight,
        shard=committed.name if committed else None,
        done=committed.stop - committed.first if committed else 0,
    )
