"""Which positions are finished, failed or still to do: the sum of all ledger lines."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from espnet3.errors import LedgerError
from espnet3.parallel.engine.order import AS_GIVEN, Order
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.positions import PositionSet


@dataclass(frozen=True)
class Shard:
    """A contiguous range that one worker finished, in one directory of the run.

    Attributes:
        name: directory name below the run directory (`split.<digits>`).
        first: first position.
        last: last position (inclusive).
        forward_seconds: time spent in `forward`, summed over the shard's units.
        longest: seconds of the longest of these; 0 where an older version did not say.
        split: (first, stop) of units in it that were done in parts, as memory was short.
    """

    name: str
    first: int
    last: int
    forward_seconds: float = 0.0
    longest: float = 0.0
    split: tuple[tuple[int, int], ...] = ()

    @property
    def stop(self) -> int:
        """One past the last position."""
        return self.last + 1


def shard_entries(shard: Shard, plan: Plan) -> list[dict[str, Any]]:
    """What the ledger says when a shard is accepted; also what was not done in whole units."""
    entry = {
        "kind": "shard",
        "dir": shard.name,
        "first": shard.first,
        "last": shard.last,
        "seconds": round(shard.forward_seconds, 6),
        "longest": round(shard.longest, 6),
    }
    split = shard.split
    if not plan.on_grid(shard.first, shard.stop):
        split = ((shard.first, shard.stop),)
    return [entry, *({"kind": "split", "first": first, "last": stop - 1} for first, stop in split)]


@dataclass
class Coverage:
    """The state of a run, built only by applying ledger entries in order.

    Accepted ranges never overlap each other or a failed position.

    Attributes:
        accepted: positions whose results are committed.
        shards: the accepted shards by first position.
        failed: failed position -> its ledger entry.
        kills: (first, stop) of a unit -> how many workers died while it was in flight.
        split: positions that were not done in the unit that the plan gives them.
        sealed: whether a merge of this coverage was completed.
        cleaned: after that the shards were removed, and what the merge made was kept: these names.
    """

    accepted: PositionSet = field(default_factory=PositionSet)
    shards: dict[int, Shard] = field(default_factory=dict)
    failed: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    kills: Counter[tuple[int, int]] = field(default_factory=Counter)
    split: PositionSet = field(default_factory=PositionSet)
    sealed: bool = False
    cleaned: tuple[str, ...] | None = None
    _failed_at: PositionSet = field(default_factory=PositionSet)

    def name_of(self, place: int, order: Order = AS_GIVEN) -> str:
        """What a failed item is called; ``#position`` where nobody knows a name."""
        return str(self.failed.get(place, {}).get("utterance", f"#{order.position(place)}"))

    def apply(self, entry: Mapping[str, Any]) -> None:
        """Take one ledger entry over.

        Raises:
            LedgerError: if the entry would overlap what is accepted or failed already.
        """
        self.sealed = entry["kind"] in ("merged", "cleaned")
        match entry["kind"]:
            case "shard":
                self._accept(_shard_of(entry))
            case "failed":
                if entry["position"] in self.accepted:
                    raise LedgerError(f"position {entry['position']} both accepted and failed")
                self.failed[entry["position"]] = entry
                self._failed_at.add(entry["position"], entry["position"] + 1)
            case "dropped":
                shard = self.shards.pop(entry["first"])
                self.accepted.remove(shard.first, shard.stop)
            case "retry":
                for position in entry["positions"]:
                    self.failed.pop(position, None)
                    self._failed_at.remove(position, position + 1)
                    if entry.get("anew"):
                        self.kills.pop((position, position + 1), None)
            case "killed":
                self.kills[entry["first"], entry["last"] + 1] += 1
            case "split":
                self.split.add(entry["first"], entry["last"] + 1)
            case "merged":
                pass
            case "cleaned":
                self.cleaned = tuple(entry["kept"])
            case other:
                raise LedgerError(f"unknown ledger entry {other!r}; written by a newer version?")

    def can_accept(self, first: int, stop: int) -> bool:
        """Whether [first, stop) is disjoint from all that is accepted or failed."""
        sound = 0 <= first < stop
        free = not self.accepted.overlaps(first, stop) and not self._failed_at.overlaps(first, stop)
        return sound and free

    def remaining(self, goal: int) -> Iterator[tuple[int, int]]:
        """Ranges of [0, goal) that are neither accepted nor failed."""
        for first, stop in self.accepted.gaps(0, goal):
            yield from self._failed_at.gaps(first, stop)

    def shards_in_order(self) -> list[Shard]:
        """Accepted shards by position."""
        return [self.shards[first] for first in sorted(self.shards)]

    @property
    def forward_seconds(self) -> float:
        """Seconds spent in `forward` for the accepted positions."""
        return sum(shard.forward_seconds for shard in self.shards.values())

    @property
    def longest(self) -> float:
        """Seconds of the longest unit among the accepted ones."""
        return max((shard.longest for shard in self.shards.values()), default=0.0)

    def _accept(self, shard: Shard) -> None:
        if not self.can_accept(shard.first, shard.stop):
            raise LedgerError(f"{shard.name} overlaps positions that are finished or failed")
        self.accepted.add(shard.first, shard.stop)
        self.shards[shard.first] = shard


def _shard_of(entry: Mapping[str, Any]) -> Shard:
    longest = entry.get("longest", 0.0)
    return Shard(entry["dir"], entry["first"], entry["last"], entry["seconds"], longest)
