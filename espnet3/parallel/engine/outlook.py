"""What the next start on a run directory would find there; nothing is locked or changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet3.errors import IdentityChanged, LedgerError
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine import shards
from espnet3.parallel.engine.begin import compare
from espnet3.parallel.engine.coverage import Coverage, shard_entries
from espnet3.parallel.engine.inherited import offers, to_retry
from espnet3.parallel.engine.ledger import read_coverage
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.order import Order
from espnet3.parallel.engine.order_file import read_order
from espnet3.parallel.engine.owner import describe_process, is_dead, read_owner, who
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.positions import PositionSet
from espnet3.parallel.engine.work import Work


@dataclass(frozen=True)
class Outlook:
    """How a run stands, as its next start would see it.

    Attributes:
        plan: the units of that start.
        order: of the run, or of the one that would begin.
        left: what that start would do: places neither done nor failed for good.
        done: places with committed results.
        retried: places that failed before and are among `left`.
        quarantined: place -> name, of those that killed too many workers to be tried again.
        forward_seconds: seconds in `forward` for `done`.
        finished: all is done and merged; the next start merges again.
        starts_over: there is a run, and it would be set aside.
        refusal: why that start would be refused; "" if it would not.
        remarks: what it would warn of.
        owner: the driver that has the run now, in words; "" if none has.
    """

    plan: Plan
    order: Order
    left: PositionSet
    done: PositionSet = field(default_factory=PositionSet)
    retried: tuple[int, ...] = ()
    quarantined: Mapping[int, str] = field(default_factory=dict)
    forward_seconds: float = 0.0
    finished: bool = False
    starts_over: bool = False
    refusal: str = ""
    remarks: tuple[str, ...] = ()
    owner: str = ""


def look_ahead(
    run_dir: Path,
    items: Sequence[Any],
    work: Work,
    identity: Mapping[str, Any],
    code: Mapping[str, str] | None,
    config: RunConfig,
    *,
    resume: bool = True,
) -> Outlook:
    """Look at a run directory as `own_run` would, which need not be there."""
    owner = _owner(run_dir)

    def anew(**more: Any) -> Outlook:
        order = work.new_order()
        plan = work.plan(order)
        return Outlook(plan, order, PositionSet([(0, plan.goal)]), owner=owner, **more)

    if not resume:
        there = (run_dir / "manifest.json").exists()
        return anew(starts_over=there)
    try:
        manifest = Manifest.read(run_dir)
        if manifest is None:
            return anew()
        coverage, order = read_coverage(run_dir, manifest.run_id), read_order(run_dir, manifest)
    except LedgerError as error:
        return anew(refusal=str(error))
    finished = coverage.sealed and not coverage.failed
    known, accept = manifest.known_part(identity), config.accept_changes
    try:
        remarks = compare(
            manifest, run_dir, items, known, code, accept, lambda: coverage, work.any_order
        )
    except IdentityChanged as error:
        return anew(refusal=str(error))
    plan = work.plan(order)
    _apply_what_a_start_does(run_dir, manifest, coverage, plan)
    failed, again = dict(coverage.failed), to_retry(coverage, config.max_kills)
    bad = failed.keys() - again
    coverage.apply({"kind": "retry", "positions": again})
    return Outlook(
        plan=plan,
        order=order,
        left=PositionSet(coverage.remaining(plan.goal)),
        done=coverage.accepted,
        retried=tuple(again),
        quarantined={p: coverage.name_of(p, order) for p in sorted(bad)},
        forward_seconds=coverage.forward_seconds,
        finished=finished and len(coverage.accepted) == plan.n_positions,
        remarks=tuple(remarks),
        owner=owner,
    )


def _apply_what_a_start_does(
    run_dir: Path, manifest: Manifest, coverage: Coverage, plan: Plan
) -> None:
    """Take over offers, take back shards that are gone; in `coverage` alone."""
    for offer in offers(run_dir, manifest, coverage):
        for entry in shard_entries(offer, plan):
            coverage.apply(entry)
    for shard in coverage.shards_in_order() if coverage.cleaned is None else ():
        if not shards.holds(run_dir / shard.name, shard, manifest.run_id):
            coverage.apply({"kind": "dropped", "first": shard.first, "last": shard.last})


def _owner(run_dir: Path) -> str:
    owner, _ = read_owner(run_dir)
    return who(owner) if owner and not is_dead(owner, describe_process()) else ""
