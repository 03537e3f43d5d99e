"""Which batches a call has: by length where that changes no result, else by count, and why."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from espnet3.errors import ConfigError
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine.work import Work
from espnet3.parallel.hooks import WRITER_HOOKS, RunnerHooks

if TYPE_CHECKING:
    from espnet3.parallel.drive import Runner

logger = logging.getLogger(__name__)


def work_of(
    runner: "Runner", n_items: int, durations: Sequence[float] | None, config: RunConfig
) -> Work:
    """What a call asks for.

    Args:
        runner: that is called.
        n_items: how many items it was given.
        durations: seconds of each; None if they are not known.
        config: the `run:` block.

    Raises:
        ConfigError: `batch_seconds` is set, and `batch_size` is not.
    """
    if config.batch_seconds is not None and runner.batch_size is None:
        raise ConfigError(
            f"run.batch_seconds is {config.batch_seconds:g}, but there are no batches: set "
            "batch_size, the most items of one, or leave batch_seconds out"
        )
    why_not = why_in_order(type(runner))
    by_seconds = not _why_by_number(type(runner))
    return Work(
        n_items,
        runner.batch_size,
        config.limit,
        durations,
        config.batch_seconds if by_seconds else None,
        not why_not,
    )


def why_by_count(runner: "type[Runner]", work: Work) -> str:
    """Why a run that begins with this work has its batches by count; "" if it has not."""
    if work.batch_size is None:
        return "forward gets single items"
    if reason := why_in_order(runner):
        return reason
    return "the data knows no durations" if work.durations is None else ""


def why_in_order(runner: "type[Runner]") -> str:
    """Why the items of a runner must be done in their order; "" if they need not be.

    Its records may come in any order where `forward` gives one for each item, and whoever merges
    knows how to put them back: all that is ours does, and a class of the user's that says so.
    """
    if reason := _why_by_number(runner):
        return reason
    for name in (*WRITER_HOOKS, "merge"):
        own = [cls for cls in runner.__mro__ if name in vars(cls)]
        if len(own) == 1:  # nobody overrides it
            continue
        below = runner.__mro__[: runner.__mro__.index(own[0]) + 1]
        if not any(vars(cls).get("per_item_output") for cls in below):
            return (
                f"{own[0].__name__} overrides {name}; where it puts its records back in the order "
                "of the items, let it say `per_item_output = True` itself"
            )
    return ""


def _why_by_number(runner: "type[Runner]") -> str:
    """Why batches are of `batch_size` items, come what may."""
    if not issubclass(runner, RunnerHooks):
        return f"{runner.__name__} is no BaseRunner"
    if runner._by_count_because:
        return runner._by_count_because
    if not runner._gives_one_per_item():
        return f"{runner.__name__} does not say `per_item_output = True`, one result for each item"
    return ""


def warn_of_ignored(runner: "type[Runner]", config: RunConfig, work: Work) -> None:
    """Say that `batch_seconds` is set in vain."""
    if config.batch_seconds is None:
        return
    why = _why_by_number(runner)
    if not why and work.durations is None:
        why = "the data knows no durations"
    if why:
        logger.warning("run.batch_seconds does nothing here, batches are by count: %s", why)
