"""One utterance of the ``infer`` stage, in this process: finding it, and doing it."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from omegaconf import DictConfig

from espnet3.components.jobs import Job
from espnet3.errors import ConfigError
from espnet3.systems.base.inference import prepare
from espnet3.systems.base.inference_config import read_config

logger = logging.getLogger(__name__)

_SHOWN = 200  # characters of a value
_NEAR = 3  # ids that an error names
_COMPARED = 100_000  # ids of a test set that are looked at for near ones


@dataclass(frozen=True)
class FoundItem:
    """An item of a test set.

    Attributes:
        test_set: Its name.
        position: In the test set.
        runner: The test set's.
        name: The utterance id, or ``#position`` where the data set knows none.
    """

    test_set: str
    position: int
    runner: Any
    name: str

    def run(self) -> Any:
        """Do it with ``runner.debug``; return what ``forward`` returned for it."""
        where = f"test set {self.test_set}: {self.name}"
        logger.info("%s (position %d) alone, in this process", where, self.position)
        result = self.runner.debug(self.position)
        is_batch = self.runner.batch_size is not None and isinstance(result, (list, tuple))
        return result[0] if is_batch and len(result) == 1 else result


def debug_item(config: DictConfig, item: str) -> dict[str, Any]:
    """Decode one utterance in this process, as the ``infer`` stage would; no run is touched.

    An exception opens a debugger where it was raised if this is a terminal, and then passes.

    Args:
        config: As for `infer`. It is not changed.
        item: The utterance's id, or ``#position``.

    Returns:
        Test set -> what ``forward`` returned, for every test set that has it.

    Raises:
        ConfigError: The config is wrong, or no test set has it.
    """
    return {found.test_set: found.run() for found in find_item(config, item)}


def find_item(config: DictConfig, item: str) -> list[FoundItem]:
    """Look for an item in all test sets of an inference config.

    Args:
        config: As for `infer`.
        item: An utterance id; or ``#position``, which may exist in any test set.

    Raises:
        ConfigError: The config is wrong, or no test set has it: the nearest are named.
        DataError: A test set is empty, or has ids that cannot be.
    """
    plan = read_config(config)
    if not callable(getattr(plan.runner[0], "debug", None)):
        raise ConfigError(
            f"runner._target_: {plan.runner[0].__name__} has no debug(), so none of its items can "
            "be done alone; derive it from espnet3.parallel.base_runner.BaseRunner"
        )
    jobs = [prepare(config, plan, name) for name in plan.test_sets]
    found = [one for job in jobs for one in _with_id(job, item)]
    if not found and (position := re.fullmatch(r"#(\d{1,18})", item)):
        found = [one for job in jobs for one in _at(job, int(position[1]))]
    if not found:
        raise ConfigError(_not_found(item, jobs))
    return found


def shown(result: Any) -> list[str]:
    """Return what an item gave as lines for a person, one a field; long values are cut."""
    if not isinstance(result, dict):
        return [_cut(result)]
    return [f"{name}: {_cut(value)}" for name, value in result.items()]


def _with_id(job: Job, utt_id: str) -> list[FoundItem]:
    name_of = job.runner.name_of
    if name_of is None:
        return []
    positions = [i for i in range(job.n_items) if str(name_of(i)) == utt_id]
    return [FoundItem(job.name, i, job.runner, utt_id) for i in positions]


def _at(job: Job, position: int) -> list[FoundItem]:
    if position >= job.n_items:
        return []
    name_of = job.runner.name_of
    name = f"#{position}" if name_of is None else str(name_of(position))
    return [FoundItem(job.name, position, job.runner, name)]


def _not_found(item: str, jobs: Sequence[Job]) -> str:
    positions = ", ".join(f"{job.name} has '#0' to '#{job.n_items - 1}'" for job in jobs)
    nameless = [job.name for job in jobs if job.runner.name_of is None]
    if item.startswith("#"):
        return f"no test set has an item {item!r}: {positions}"
    text = f"no test set has an utterance {item!r}"
    if len(nameless) < len(jobs):
        text += f" (there is {', '.join(job.name for job in jobs)})"
    near = _nearest(item, jobs)
    if near:
        text += f"; the nearest are {', '.join(near)}"
    if nameless:
        text += (
            f"; the data of {', '.join(nameless)} has no utt_id(), so its items have positions "
            f"alone: {positions}"
        )
    return text


def _nearest(utt_id: str, jobs: Sequence[Job]) -> list[str]:
    """Return the ids that hold this one, or else look like it, each with a test set."""
    home: dict[str, str] = {}
    for job in jobs:
        name_of = job.runner.name_of
        if name_of is not None:
            ids = (str(name_of(i)) for i in range(min(job.n_items, _COMPARED)))
            home = dict.fromkeys(ids, job.name) | home
    holding = (one for one in home if utt_id.lower() in one.lower())
    near = list(islice(holding, _NEAR))
    near = near or difflib.get_close_matches(utt_id, home, n=_NEAR, cutoff=0.5)
    return [f"{one!r} of {home[one]}" for one in near]


def _cut(value: Any) -> str:
    shape = getattr(value, "shape", ())
    if isinstance(shape, tuple) and shape:  # an array: its numbers say little
        return f"{type(value).__name__} of shape {shape}, {getattr(value, 'dtype', '')}"
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
