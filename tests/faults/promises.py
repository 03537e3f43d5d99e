"""What must hold after every start, whatever was done to it."""

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field

from fragile import STATUS, Forward, deaths, forwards
from place import Broken, Place
from start import Start
from truth import Truth
from vandal import read_range, run_id_of

from espnet3.errors import LedgerError
from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.ledger import read_coverage

_NOISE = re.compile(
    "Exception ignored|never retrieved|Exception in thread|was destroyed but|ResourceWarning"
)
_FROM_ITEMS = {-signal.SIGKILL, -signal.SIGSEGV, STATUS}


def committed(place: Place) -> set[int]:
    """Positions that are committed on disk for the run that is there."""
    run_id = run_id_of(place.out)
    ranges = (read_range(path.parent, run_id) for path in place.out.glob("split.*/done"))
    return set().union(*ranges) if run_id else set()


def check_status(start: Start, status: int, allowed: Iterable[str], truth: Truth) -> None:
    """The start ended in one of the ways that its life explains.

    Args:
        start: it.
        status: its exit status.
        allowed: errors beside RunFailed that it may have ended with.
        truth: about the items.
    """
    sent, kind = start.signals, start.outcome["kind"]
    ways = {0: {"done"}, 1: {*allowed}}
    if truth.bad or truth.moods or start.killed:
        ways[1].add("RunFailed")
    if start.disk_was_full:
        ways[1].add("RunStopped")
    if start.hit_early or len(start.killed) + len(deaths(start.place.log)) >= 3 * start.workers:
        # A cluster could not start, or so many workers died without an item in hand.
        ways[1].add("RunStopped")
    if signal.SIGTERM in sent:
        ways |= {143: {"SystemExit"}, -signal.SIGTERM: {"", kind}}
    if signal.SIGINT in sent:
        ways |= dict.fromkeys((130, -signal.SIGINT), {"KeyboardInterrupt", "", kind})
        if not start.forwards:
            ways[1].add("")  # Python itself was still starting
    if signal.SIGKILL in sent:
        ways[-signal.SIGKILL] = {"", kind}
    if start.workers == 1 and start.pid in deaths(start.place.log):
        ways |= {number: {""} for number in _FROM_ITEMS}
    if kind not in ways.get(status, set()):
        raise Broken(
            f"start {start.number} ended with {status} {kind}: {start.outcome['message']}; "
            f"allowed: {ways}\n{start.text[-5000:]}"
        )
    noise = _NOISE.search(start.text)
    if noise and not start.killed & {start.pid}:  # a second Ctrl-C may meet Python as it ends
        raise Broken(f"start {start.number} makes noise ({noise[0]}):\n{start.text[-5000:]}")


def check_ledger(place: Place) -> Coverage | None:
    """The ledger can be read (replaying it refuses overlaps); None if there is none yet."""
    run_id = run_id_of(place.out)
    if not run_id:
        return None
    try:
        coverage = read_coverage(place.out, run_id)
    except LedgerError as error:
        raise Broken(f"the ledger cannot be read any more: {error}") from error
    seen: set[int] = set(coverage.failed)
    for shard in coverage.shards_in_order():
        positions = set(range(shard.first, shard.stop))
        if seen & positions:
            raise Broken(f"{shard} overlaps what is done or failed")
        seen |= positions
    return coverage


def check_nothing_left_over(place: Place, coverage: Coverage) -> None:
    """After a completed run, every shard directory of ours is one that counts."""
    known = {shard.name for shard in coverage.shards.values()}
    ours = re.compile(r"split\.1\d{12,}")
    found = {path.name for path in place.out.iterdir() if path.is_dir() and ours.match(path.name)}
    if found != known:
        raise Broken(f"shard directories and ledger differ: {sorted(found ^ known)}")
    temporary = [path.name for path in place.out.glob(".*.tmp")]
    if temporary:
        raise Broken(f"left over: {temporary}")


@dataclass
class Repeats:
    """Who did what, over all starts, and what of it had to be done again and why.

    Attributes:
        kept_from: number of the first start of the run that is there now.
        killed: processes that were ended in the middle of something.
        excused: positions whose results the kit itself has destroyed.
        thrown_away: starts that may have thrown whole shards away (a full disk).
    """

    kept_from: int = 0
    killed: set[int] = field(default_factory=set)
    excused: set[int] = field(default_factory=set)
    thrown_away: set[int] = field(default_factory=set)

    def begin_anew(self, start: int) -> None:
        """From this start on, the directory holds another run."""
        self.kept_from, self.excused = start, set()

    def check(self, place: Place, truth: Truth, before: set[int], start: Start) -> None:
        """Nothing is repeated but what somebody who was killed had in hand.

        Args:
            place: of the life.
            truth: about the items.
            before: positions that were committed before the start.
            start: the one that has just ended.
        """
        all_done = forwards(place.log)
        again = {f.item for f in all_done if f.start == start.number} & before - self.excused
        if again:
            raise Broken(f"start {start.number} did again what was committed: {sorted(again)}")
        repeated = self.repeated(all_done)
        by_pid: dict[int, list[Forward]] = {}
        for forward in all_done:
            if forward.start >= self.kept_from and forward.start not in self.thrown_away:
                by_pid.setdefault(forward.pid, []).append(forward)
        killed = self.killed | deaths(place.log)
        now = committed(place)
        for pid, done in by_pid.items():
            sound = [
                f for f in done
                if f.item not in self.excused and not truth.near_trouble(f.item)
            ]  # fmt: skip
            lost = [f.item for f in sound if f in repeated]
            kept = [f.item for f in sound if f not in repeated and f.item in now]
            if lost and pid not in killed and not truth.breaks:
                raise Broken(f"process {pid} was not killed, but {lost} were done again")
            if lost and not truth.breaks:
                # A batch that did not fit into memory begins its items more than once in a lease.
                _check_one_lease(pid, [f.item for f in sound], set(lost), set(kept))

    def repeated(self, all_done: list[Forward]) -> set[Forward]:
        """Forwards whose item was done again later in the same run."""
        last = {f.item: f for f in all_done if f.start >= self.kept_from}
        return {f for f in all_done if f.start >= self.kept_from and f != last[f.item]}


def _check_one_lease(pid: int, done: list[int], lost: set[int], kept: set[int]) -> None:
    """What a process lost is what it did last, up to where its lease began."""
    tail = list(done)
    while tail[0] not in lost:
        tail.pop(0)
    jumps = [b for a, b in zip(tail, tail[1:], strict=False) if b <= a]
    if kept.intersection(tail) or jumps:
        raise Broken(f"process {pid} lost {sorted(lost)} of {tail}: more than its last lease")


def listing(place: Place) -> dict[str, tuple[int, int]]:
    """What a refused start must leave as it is: all but the lock and the logs."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in place.out.rglob("*")
        if path.is_file() and path.name != "lock" and "logs" not in path.parts
    }
