"""The story of one runner call: own the run directory, deal, collect, merge."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, SupportsFloat, cast

from espnet3.errors import ConfigError, RunFailed, RunStopped
from espnet3.parallel.batch_choice import warn_of_ignored, work_of
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.engine.directory import OpenRun, check_kept, check_shards, own_run, seal
from espnet3.parallel.engine.disk import is_no_items_fault, told
from espnet3.parallel.engine.events import DONE, MERGING, STOPPED, EventLog
from espnet3.parallel.engine.files import EVENTS, FAILURES
from espnet3.parallel.engine.items import as_items
from espnet3.parallel.engine.progress import duration
from espnet3.parallel.engine.report import KILLED
from espnet3.parallel.engine.run import Run
from espnet3.parallel.env_provider import model_key, setup_function
from espnet3.parallel.live_line import live_line
from espnet3.parallel.parallel import get_settings
from espnet3.parallel.signals import Interruption, caught
from espnet3.parallel.start_event import tell_of_start
from espnet3.parallel.wording import unless_resuming
from espnet3.parallel.worker.job import Job

if TYPE_CHECKING:
    from espnet3.parallel.hooks import RunnerHooks

logger = logging.getLogger(__name__)


class Runner(Protocol):
    """What a runner is to its driver; `BaseRunner` is the one that there is."""

    provider: Any
    batch_size: int | None
    output_dir: Path | None
    shard_subdir: str
    resume: bool
    starts_over: bool
    name_of: Callable[[Any], str] | None

    @property
    def run_dir(self) -> Path:
        """The run directory."""

    def identity(self) -> dict[str, Any]:
        """What decides the results."""

    def code_identity(self) -> dict[str, str]:
        """A hash for each module of the user's code that decides the results."""

    def merge(self, shard_dirs: list[Path]) -> Any:
        """Make the final result."""


def drive(runner: Runner, indices: Iterable[Any], durations: Sequence[float] | None) -> Any:
    """Do what is left of a run and merge it; see `BaseRunner.__call__`."""
    items = as_items(indices)
    durations = check_durations(durations, len(items))
    parallel, config = get_settings()
    work = work_of(runner, len(items), durations, config)
    warn_of_ignored(type(runner), config, work)
    identity, code = runner.identity(), runner.code_identity()
    config = replace(config, resume=runner.resume and config.resume)
    with (
        own_run(
            runner.run_dir,
            items,
            work,
            identity,
            config,
            resume=config.resume and not runner.starts_over,
            code=code,
        ) as owned,
        EventLog(owned.run_dir / EVENTS, owned.ledger.epoch) as events,
    ):
        order, plan, seconds = owned.order, owned.plan, work.seconds(owned.order)
        run = Run(
            owned.run_dir,
            owned.manifest.run_id,
            plan,
            owned.ledger,
            config,
            workers=parallel.n_workers,
            durations=seconds,
            name_of=lambda place: name_at(runner, items, order.position(place)),
            events=events,
            order=order,
        )
        tell_of_start(run, parallel, config, seconds)
        if owned.in_flight is not None:
            run.suspect_from_before(owned.in_flight)
        _say_what_is_there(run)
        if not run.over:
            with caught() as interruption:
                _execute(
                    run, _job(runner, run), order.of(items), runner.provider, parallel, interruption
                )
            _end_if_asked_to(interruption, run)
        _raise_if_failed(run, items)
        if plan.goal < plan.n_positions:
            logger.info(
                "the first %d of %d items are done in %s; a limited run is not merged",
                plan.goal, plan.n_positions, run.run_dir,
            )  # fmt: skip
            events.state(STOPPED, f"the first {plan.goal} items are done, as `limit` says")
            return None
        if owned.ledger.coverage.cleaned is not None:
            check_kept(owned)
            events.state(DONE)
            return None
        events.state(MERGING)
        value = _merge(runner, owned, config.resume)
        events.state(DONE)
        return value


def check_durations(durations: Sequence[float] | None, n_items: int) -> Sequence[float] | None:
    """Durations decide the order of work alone, so bad ones are no reason to stop.

    Raises:
        ConfigError: if there are not as many as items, or one is no number.
    """
    if durations is None:
        return None
    if len(durations) != n_items:
        raise ConfigError(f"{len(durations)} durations given for {n_items} items")
    try:
        usable = all(0 <= seconds < float("inf") for seconds in durations)
    except (TypeError, ValueError):  # or a row of an array that has rows
        wrong = next((s for s in durations if not _is_number(s)), None)
        raise ConfigError(f"durations are numbers of seconds, and one is {wrong!r}") from None
    if not usable:
        logger.warning("some durations are negative or not finite; doing without any")
        return None
    return durations


def _is_number(value: Any) -> bool:
    return isinstance(value, SupportsFloat) and not getattr(value, "shape", ())


def name_at(runner: Runner, items: Sequence[Any], position: int) -> str:
    """How the item at a position is called."""
    item = items[position]
    if runner.name_of is not None:
        return runner.name_of(item)
    return item if isinstance(item, str) else f"#{position}"


def _job(runner: Runner, run: Run) -> Job:
    return Job(
        runner=cast("type[RunnerHooks]", type(runner)),
        provider=type(runner.provider).__name__,
        output_dir=str(runner.output_dir),
        shard_subdir=runner.shard_subdir,
        run_dir=run.run_dir,
        run_id=run.run_id,
        plan=run.plan,
        model_key=model_key(runner.provider),
        naming=run.naming,
        prefetch=run.config.prefetch,
    )


def _execute(
    run: Run,
    job: Job,
    items: Sequence[Any],
    provider: Any,
    parallel: ParallelConfig,
    interruption: Interruption,
) -> None:
    began, to_do = time.monotonic(), run.n_left
    # Nobody can end a unit that hangs in this very process.
    isolated = run.config.unit_timeout is not None
    with live_line(run.progress_line):
        if parallel.env == "local" and parallel.n_workers == 1 and not isolated:
            from espnet3.parallel.executors.in_process import run_in_process

            run_in_process(run, job, items, provider, interruption)
        else:
            from espnet3.parallel.executors.dask_pull import run_on_cluster

            run_on_cluster(run, job, items, setup_function(provider), parallel, interruption)
    took = duration(time.monotonic() - began)
    pace = f" ({run.pace})" if run.pace else ""
    failed = f"{len(run.coverage.failed)} failed, " if run.coverage.failed else ""
    logger.info(
        "%s: %d items in %s%s; %s%d are left",
        run.run_dir.name, to_do - run.n_left, took, pace, failed, run.n_left,
    )  # fmt: skip


def _end_if_asked_to(interruption: Interruption, run: Run) -> None:
    if interruption.signal is None:
        return
    run.events.state(STOPPED, interruption.reason)
    logger.warning(
        "%s; %d of %d items are done and kept in %s; the same command%s goes on there",
        interruption.reason,
        len(run.coverage.accepted),
        run.plan.n_positions,
        run.run_dir,
        unless_resuming(run.config.resume),
    )
    interruption.raise_if_any()


def _raise_if_failed(run: Run, items: Sequence[Any]) -> None:
    try:
        run.raise_if_failed()
    except RunFailed as error:
        error.debug = f"runner.debug({items[error.failures[0]['position']]!r})"
        raise


def _say_what_is_there(run: Run) -> None:
    done = len(run.coverage.accepted)
    if run.coverage.cleaned is not None:
        logger.info("%s: finished before; its shards were removed since", run.run_dir.name)
    elif done == run.plan.n_positions:
        logger.info("%s: all %d items were done before; merging them", run.run_dir.name, done)
    elif done:
        logger.info(
            "%s: %d of %d items were done before", run.run_dir.name, done, run.plan.n_positions
        )


def _merge(runner: Runner, owned: OpenRun, resumes: bool) -> Any:
    shard_dirs = check_shards(owned)
    try:
        value = runner.merge(shard_dirs)
    except Exception as error:
        note = (
            f"Raised by {type(runner).__name__}.merge, when the items were done. They are kept in "
            f"{owned.run_dir}; the next call{unless_resuming(resumes)} does none of them again, it "
            "merges."
        )
        if is_no_items_fault(error):
            raise RunStopped(f"{told(error, owned.run_dir)}.\n{note}") from error
        error.add_note(note)
        raise
    seal(owned)
    failed, n = owned.ledger.coverage.failed, owned.manifest.positions
    if failed:
        n_killed = sum(entry["error"] == KILLED for entry in failed.values())
        logger.warning(
            "published %d of %d items; %d failed and are left out (see %s); the next run tries "
            "them again%s",
            n - len(failed), n, len(failed), owned.run_dir / FAILURES,
            f", but not the {n_killed} with {KILLED} before max_kills is raised" * bool(n_killed),
        )  # fmt: skip
    return value
