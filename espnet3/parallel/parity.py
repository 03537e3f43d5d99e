"""Whether batches change what comes out: a sample, item by item and in the planned batches."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from espnet3.errors import ConfigError
from espnet3.parallel.batch_choice import work_of
from espnet3.parallel.config import ParallelConfig, RunConfig
from espnet3.parallel.drive import check_durations, name_at
from espnet3.parallel.engine.items import as_items
from espnet3.parallel.engine.order import Order
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.env_provider import build_local, model_key
from espnet3.parallel.hooks import check_one_per_item
from espnet3.parallel.parallel import in_session
from espnet3.parallel.run_plan import plan_of
from espnet3.parallel.worker.env import drop_env
from espnet3.parallel.worker.inject import call

if TYPE_CHECKING:
    from espnet3.parallel.drive import Runner
    from espnet3.parallel.hooks import RunnerHooks

SHOWN = 20  # differences


@dataclass(frozen=True)
class Difference:
    """An item whose result depends on its batch.

    Attributes:
        utterance: its name.
        batch_size: items of its batch.
        alone: what it gives alone, without numbers that are not whole, and arrays.
        batched: the same in its batch.
    """

    utterance: str
    batch_size: int
    alone: Any
    batched: Any


@dataclass(frozen=True)
class Parity:
    """What came of a comparison.

    Attributes:
        n_items: how many were compared.
        n_batches: in so many batches.
        differences: those that differ.
    """

    n_items: int
    n_batches: int
    differences: tuple[Difference, ...]

    @property
    def share(self) -> float:
        """How many of the items differ, from 0 to 1."""
        return len(self.differences) / self.n_items if self.n_items else 0.0

    def __str__(self) -> str:
        """Return all of it, one thing a line."""
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        n = len(self.differences)
        batches = "1 batch" if self.n_batches == 1 else f"{self.n_batches} batches"
        yield (
            f"{self.n_items} items, alone and in {batches}: {n} differ ({100 * self.share:.1f} %)"
        )
        for one in self.differences[:SHOWN]:
            for field, alone, batched in _fields(one.alone, one.batched):
                yield f"  {one.utterance}{field}"
                yield f"    alone:          {alone!r}"
                yield f"    in {one.batch_size:>4} at once: {batched!r}"
        if n > SHOWN:
            yield f"  ... and {n - SHOWN} more"


def parity_of(
    runner: "Runner",
    indices: Iterable[Any],
    durations: Sequence[float] | None,
    n: int,
    settings: tuple[ParallelConfig, RunConfig],
) -> Parity:
    """See `BaseRunner.parity`; `settings` are the `parallel:` and `run:` blocks."""
    cls = cast("type[RunnerHooks]", type(runner))
    if runner.batch_size is None:
        raise ConfigError(f"{cls.__name__} has no batch_size, so there are no batches to compare")
    if not cls._gives_one_per_item():
        raise ConfigError(
            f"{cls.__name__} does not say `per_item_output = True`: what forward returns for a "
            "batch cannot be compared item by item"
        )
    items = as_items(indices)
    plan, order, seconds = _planned(runner, items, durations, settings)
    units = _spread(plan, seconds, n)
    with tempfile.TemporaryDirectory(prefix="espnet3.parity.") as directory:
        drop_env(but_model=model_key(runner.provider))
        try:
            place = {"output_dir": directory, "shard_subdir": runner.shard_subdir}
            env = {**place, **build_local(runner.provider)}
            found = [
                one for unit in units for one in _compared(runner, cls, items, order, unit, env)
            ]
        finally:
            if not in_session():
                drop_env()
    n_items = sum(stop - first for first, stop in units)
    return Parity(n_items, len(units), tuple(found))


def _planned(
    runner: "Runner",
    items: Sequence[Any],
    durations: Sequence[float] | None,
    settings: tuple[ParallelConfig, RunConfig],
) -> tuple[Plan, Order, Sequence[float] | None]:
    """The units of the run, its order, and the durations by place."""
    known = check_durations(durations, len(items))
    work = work_of(runner, len(items), known, settings[1])
    if runner.output_dir is None:
        order = work.new_order()
        return work.plan(order), order, work.seconds(order)
    outlook = plan_of(runner, items, known, settings).outlook
    return outlook.plan, outlook.order, work.seconds(outlook.order)


def _spread(plan: Plan, seconds: Sequence[float] | None, n: int) -> list[tuple[int, int]]:
    """Units of about `n` places in all, spread over the lengths."""
    units = [*plan.units(0, plan.n_positions)]
    if seconds is not None:
        units.sort(key=lambda unit: max(seconds[unit[0] : unit[1]]))
    n_units = min(len(units), max(1, round(n * len(units) / max(1, plan.n_positions))))
    step = (len(units) - 1) / max(1, n_units - 1)
    return [units[round(i * step)] for i in range(n_units)] if units else []


def _compared(
    runner: "Runner",
    cls: "type[RunnerHooks]",
    items: Sequence[Any],
    order: Order,
    unit: tuple[int, int],
    env: Mapping[str, Any],
) -> Iterator[Difference]:
    positions = order.positions(*unit)
    batch = [items[position] for position in positions]
    together = _results(cls, batch, env)
    for position, item, batched in zip(positions, batch, together, strict=True):
        (alone,) = _results(cls, [item], env)
        one, other = _text(alone), _text(batched)
        if one != other:
            yield Difference(name_at(runner, items, position), len(batch), one, other)


def _results(cls: "type[RunnerHooks]", batch: list[Any], env: Mapping[str, Any]) -> Any:
    try:
        results = call(cls.forward, list(batch), env=env)
        check_one_per_item(results, len(batch))
    except Exception as error:
        error.add_note(f"This was in forward, for {len(batch)} items: {batch[:3]!r} ...")
        raise
    return results


def _text(value: Any) -> Any:
    """What of a result must not depend on rounding: all but floats, arrays and their like."""
    if isinstance(value, Mapping):
        parts = {str(key): _text(inner) for key, inner in value.items()}
        return {key: part for key, part in parts.items() if part is not ...}
    if isinstance(value, (list, tuple)):
        return [_text(inner) for inner in value]
    return value if isinstance(value, (str, int)) or value is None else ...


def _fields(alone: Any, batched: Any) -> Iterator[tuple[str, Any, Any]]:
    if not isinstance(alone, dict) or not isinstance(batched, dict):
        yield "", alone, batched
        return
    for key in dict.fromkeys([*alone, *batched]):
        one, other = alone.get(key), batched.get(key)
        if one != other:
            yield f", {key}", one, other
