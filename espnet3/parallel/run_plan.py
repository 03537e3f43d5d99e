"""What a runner call would do, told before it does it: what is left, for whom, for how long."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet3.parallel.batch_choice import why_by_count, work_of
from espnet3.parallel.batch_figures import BatchFigures, batch_figures_of
from espnet3.parallel.config import ParallelConfig, RunConfig
from espnet3.parallel.engine.items import as_items
from espnet3.parallel.engine.lengths import Lengths
from espnet3.parallel.engine.outlook import Outlook, look_ahead
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.positions import PositionSet
from espnet3.parallel.engine.progress import duration

if TYPE_CHECKING:
    from espnet3.parallel.drive import Runner

_NAMED = 5  # items


@dataclass(frozen=True)
class Prediction:
    """How long what is left takes.

    Attributes:
        seconds: from the first item to the last, on all workers; None if nobody can say.
        basis: what that was made from, or why there is none.
    """

    seconds: float | None
    basis: str

    def __str__(self) -> str:
        """Return it in words."""
        return self.basis if self.seconds is None else f"about {duration(self.seconds)}{self.basis}"


@dataclass(frozen=True)
class RunPlan:
    """What a call of a runner would do.

    Attributes:
        run_dir: the run directory.
        plan: places and units.
        outlook: what is done and what is left.
        n_workers: how many were asked for.
        prediction: of the time.
        batches: what they are like; None if `forward` gets single items.
    """

    run_dir: Path
    plan: Plan
    outlook: Outlook
    n_workers: int
    prediction: Prediction
    batches: BatchFigures | None = None

    def __str__(self) -> str:
        """Return all of it, one thing a line."""
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        plan, outlook = self.plan, self.outlook
        limited = f", of which this call does the first {plan.goal}" if plan.limit else ""
        yield f"run directory: {self.run_dir}"
        yield f"items: {plan.n_positions}{limited}{self._in_units()}"
        if self.batches is not None:
            yield from self.batches.lines()
        if outlook.owner:
            yield f"in use by {outlook.owner}"
        if outlook.refusal:
            yield f"would be refused: {outlook.refusal}"
            return
        yield from outlook.remarks
        if outlook.starts_over:
            yield "there is a run; it would be set aside"
        yield f"done: {_count(outlook.done, plan)}"
        if outlook.retried:
            yield f"failed before, tried again: {len(outlook.retried)}"
        if outlook.quarantined:
            names = list(islice(outlook.quarantined.values(), _NAMED))
            more = ", ..." if len(outlook.quarantined) > _NAMED else ""
            yield (
                f"not tried again before max_kills is raised: {len(outlook.quarantined)} "
                f"({', '.join(names)}{more}); only `on_error: skip` publishes without them"
            )
        if not outlook.left:
            yield "left: nothing" + (" (finished; it is merged again)" if outlook.finished else "")
            return
        yield f"left: {_count(outlook.left, plan)}"
        yield f"workers: {self.n_workers}"
        yield f"time: {self.prediction}"

    def _in_units(self) -> str:
        plan = self.plan
        if plan.batch_size is None:
            return ""
        uneven = self.batches is not None and self.batches.by_seconds
        count = _plural(plan.n_units, "batch", "batches")
        return f", {count} of {'at most ' if uneven else ''}{plan.batch_size}"


def plan_of(
    runner: "Runner",
    indices: Iterable[Any],
    durations: Sequence[float] | None,
    settings: tuple[ParallelConfig, RunConfig],
) -> RunPlan:
    """See `BaseRunner.plan`; `settings` are the `parallel:` and `run:` blocks."""
    from espnet3.parallel.drive import check_durations

    items = as_items(indices)
    parallel, config = settings
    known = check_durations(durations, len(items))
    work = work_of(runner, len(items), known, config)
    outlook = look_ahead(
        runner.run_dir.absolute(),
        items,
        work,
        runner.identity(),
        runner.code_identity(),
        config,
        resume=runner.resume and config.resume and not runner.starts_over,
    )
    plan, order, seconds = outlook.plan, outlook.order, work.seconds(outlook.order)
    return RunPlan(
        runner.run_dir,
        plan,
        outlook,
        parallel.n_workers,
        predict(plan, outlook, parallel.n_workers, seconds),
        batch_figures_of(work, plan, order, why_by_count(type(runner), work), seconds),
    )


def predict(
    plan: Plan, outlook: Outlook, n_workers: int, durations: Sequence[float] | None
) -> Prediction:
    """How long what is left takes, by what the run itself has taken so far.

    The longest unit bounds it from below; where leases end adds a few per cent at most, and
    building the env and waiting for workers is not in it.
    """
    n_units = sum(1 for _ in islice(_units(plan, outlook.left), n_workers))
    workers = max(1, min(n_workers, n_units))
    on_workers = f"on {_plural(workers, 'worker')}"
    n_done, measured = len(outlook.done), outlook.forward_seconds
    if durations is None:
        if not measured:
            return Prediction(
                None, "not known: nothing was measured yet, and the data knows no durations"
            )
        each = measured / n_done
        at_least = each * min(plan.unit_size, len(outlook.left))
        seconds = max(each * len(outlook.left) / workers, at_least)
        basis = f"{each:.3g} s an item, measured over {_plural(n_done, 'item')}"
        return Prediction(seconds, f" {on_workers} ({basis})")
    lengths = Lengths(durations)
    audio, heard = lengths.total(outlook.left), lengths.total(outlook.done)
    longest = max((lengths.of(*unit) for unit in _units(plan, outlook.left)), default=0.0)
    share = max(audio / workers, longest)
    if not measured or not heard:
        return Prediction(
            None,
            f"not known: nothing was measured yet; the busiest worker has {duration(share)} of "
            f"{duration(audio)} of audio",
        )
    factor = measured / heard
    basis = f"{duration(audio)} of audio, at the real-time factor {factor:.2g} measured so far"
    return Prediction(factor * share, f" {on_workers} ({basis})")


def _units(plan: Plan, positions: PositionSet) -> Iterator[tuple[int, int]]:
    for first, stop in positions:
        yield from plan.units(first, stop)


def _count(positions: PositionSet, plan: Plan) -> str:
    if plan.batch_size is None or not positions:
        return f"{len(positions)}"
    n_units = sum(plan.count(first, stop) for first, stop in positions)
    return f"{len(positions)} in {_plural(n_units, 'batch', 'batches')}"


def _plural(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"
