"""What a start finds of those before it: their workers' last shards, and what failed."""

from collections.abc import Iterator
from pathlib import Path

from espnet3.parallel.engine import shards
from espnet3.parallel.engine.coverage import Coverage, Shard
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.report import KILLED


def offers(run_dir: Path, manifest: Manifest, coverage: Coverage) -> Iterator[Shard]:
    """Finished shards that no ledger names, one by one: each is to be entered before the next."""
    known = {shard.name for shard in coverage.shards.values()}
    for offer in shards.find_offers(run_dir, manifest.run_id, known):
        if offer.stop <= manifest.positions and coverage.can_accept(offer.first, offer.stop):
            yield offer


def to_retry(coverage: Coverage, max_kills: int) -> list[int]:
    """Failed positions, in order, but for those that have killed `max_kills` workers."""
    return sorted(
        position
        for position, entry in coverage.failed.items()
        if entry["error"] != KILLED or coverage.kills[position, position + 1] < max_kills
    )
