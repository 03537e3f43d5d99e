"""The ``infer`` stage: every test set of a config, decoded on one cluster."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from espnet3.errors import ConfigError, DataError, IdentityChanged, RecordRejected, RunFailed
from espnet3.parallel.parallel import get_settings, parallel_session
from espnet3.systems.base.inference_config import InferencePlan, read_config
from espnet3.utils.scp import check_utt_id

logger = logging.getLogger(__name__)

_WAYS_ON = (
    "What stands in `run:` is for all test sets of a call. There `accept_changes: true` keeps what "
    "is done of each, does the rest, and remembers the setup as it is now (another list of items "
    "is never accepted); `resume: false` starts all over. To start one over alone, remove its "
    "directory and run the same command."
)


def infer(config: DictConfig) -> None:
    """Decode all test sets of an inference config.

    The outputs of a test set go to ``<inference_dir>/<test set>/<field>.scp`` (see `publish`).
    What is there already from an interrupted run is kept and completed. The test sets are built
    here first, to be checked; the model is built on the workers alone.

    Keys of the config: ``inference_dir``, ``dataset`` (with ``test``), ``model``, ``input_key``,
    and optionally ``output_fn``, ``output_keys``, ``output_artifacts``, ``idx_key``,
    ``batch_size``, ``provider`` (with ``params``), ``runner``, ``parallel``, ``run``. Further keys
    may be whatever interpolations or a provider of the recipe need.

    Args:
        config: It is not changed.

    Raises:
        ConfigError: Something is wrong in the config. Nothing has been started.
        DataError: A test set is empty, or has an utterance id twice or one that cannot be one.
            Nothing has been started.
        RunFailed: Items failed. The other test sets have been decoded all the same, unless
            ``on_error`` is ``raise``.
        IdentityChanged: A test set was decoded with another setup, or is finished and its code was
            edited. It is left as it is; the other test sets have been decoded.
    """
    plan = read_config(config)
    with parallel_session(config.get("parallel"), run=config.get("run")):
        jobs = [prepare(config, plan, name) for name in plan.test_sets]
        failed: dict[str, RunFailed] = {}
        refused: dict[str, IdentityChanged] = {}
        for job in jobs:
            logger.info("test set %s: %d items to %s", job.name, job.n_items, job.runner.run_dir)
            try:
                job.run()
            except RunFailed as error:
                error.debug = _how_to_debug(error)
                if get_settings()[1].on_error == "raise" or len(jobs) == 1:
                    raise
                logger.error("test set %s: %s", job.name, error.summary.partition("\n")[0])
                failed[job.name] = error
            except IdentityChanged as error:
                if len(jobs) == 1:
                    raise
                logger.error("test set %s is left as it is, the others go on: %s", job.name, error)
                refused[job.name] = error
    if failed or refused:
        raise _all_of(failed, refused, len(jobs)) from next(
            chain(failed.values(), refused.values())
        )


@dataclass(frozen=True)
class InferenceJob:
    """One test set, checked and ready to be decoded.

    Attributes:
        name: The test set's.
        runner: Its ``name_of`` gives an item's utterance id, or is None where nobody knows one.
        n_items: How many there are.
        durations: Seconds of each, where the data set knows them.
    """

    name: str
    runner: Any
    n_items: int
    durations: Sequence[float] | None

    def run(self) -> None:
        """Decode it."""
        if self.durations is not None and _takes_durations(self.runner):
            self.runner(range(self.n_items), durations=self.durations)
        else:
            self.runner(range(self.n_items))


def prepare(config: DictConfig, plan: InferencePlan, name: str) -> InferenceJob:
    """Build and check a test set, and the runner that is to decode it.

    Raises:
        ConfigError: The ``runner`` block has a key that is set here.
        DataError: The test set is empty, or its ids or durations cannot be.
    """
    own = copy.deepcopy(config)
    with open_dict(own):
        own.test_set = name
    provider_class, arguments = plan.provider
    provider = provider_class(**arguments, inference_config=own, params=dict(plan.params))
    dataset = provider.build_dataset(own)
    n_items = len(dataset)
    if n_items == 0:
        raise DataError(
            f"test set {name!r} is empty; look at its entry under dataset.test, and at what the "
            "create_dataset stage has made"
        )
    _check_ids(dataset, name, n_items)
    durations = _durations(dataset, name, n_items)
    runner = _make_runner(plan, provider, Path(plan.inference_dir) / name)
    utt_id = getattr(dataset, "utt_id", None)
    if callable(utt_id):
        runner.name_of = utt_id
    fingerprint = getattr(dataset, "fingerprint", None)
    if callable(fingerprint) and hasattr(runner, "dataset_fingerprint"):
        runner.dataset_fingerprint = str(fingerprint())
    return InferenceJob(name, runner, n_items, durations)


def _takes_durations(runner: Any) -> bool:
    """ESPnet3's runners, and those that override ``__call__`` like them, take indices alone."""
    return "durations" in inspect.signature(runner).parameters


def _make_runner(plan: InferencePlan, provider: Any, output_dir: Path) -> Any:
    runner_class, arguments = plan.runner
    given = {
        "provider": provider,
        "idx_key": plan.params["idx_key"],
        "hyp_key": plan.params["output_keys"] or [],
        "ref_key": [],
        "batch_size": plan.batch_size,
        "output_dir": output_dir,
    }
    clash = sorted(given.keys() & arguments.keys())
    if clash:
        raise ConfigError(f"runner.{clash[0]}: is set by infer; remove it from the block")
    return runner_class(**arguments, **given)


def _check_ids(dataset: Any, name: str, n_items: int) -> None:
    """Find an id that comes twice or cannot be one, where the dataset knows its ids."""
    utt_id = getattr(dataset, "utt_id", None)
    if not callable(utt_id):
        return  # found when the outputs are merged
    positions: dict[str, int] = {}
    for i in range(n_items):
        try:
            checked = check_utt_id(utt_id(i), f"test set {name!r}, item {i}")
        except RecordRejected as error:
            raise DataError(str(error)) from None
        first = positions.setdefault(checked, i)
        if first != i:
            raise DataError(
                f"test set {name!r}: utterance id {checked!r} comes twice, at positions {first} "
                f"and {i}; give every utterance an id of its own"
            )


def _durations(dataset: Any, name: str, n_items: int) -> Sequence[float] | None:
    method = getattr(dataset, "durations", None)
    durations: Sequence[float] | None = method() if callable(method) else None
    if durations is not None and len(durations) != n_items:
        raise DataError(
            f"test set {name!r}: durations() gives {len(durations)} numbers for {n_items} items"
        )
    return durations


def _all_of(
    failed: dict[str, RunFailed], refused: dict[str, IdentityChanged], n_jobs: int
) -> RunFailed | IdentityChanged:
    """One error for several test sets; each failure says which it belongs to."""
    heads = []
    if failed:
        heads.append(f"{len(failed)} of {n_jobs} test sets have failed items")
    if refused:
        heads.append(f"{len(refused)} of {n_jobs} test sets were refused and left as they are")
    if len(failed) + len(refused) < n_jobs:
        heads.append("the others are complete")
    text = [f"{'; '.join(heads)}."]
    text += [f"test set {name}: {error}" for name, error in refused.items()]
    if refused:
        text.append(_WAYS_ON)
    text += [f"test set {name}: {error.summary}" for name, error in failed.items()]
    if not failed:
        return IdentityChanged("\n".join(text))
    entries = [
        {**entry, "test_set": name} for name, error in failed.items() for entry in error.failures
    ]
    debug = next(iter(failed.values())).debug
    return RunFailed("\n".join(text), failures=entries, debug=debug)


def _how_to_debug(error: RunFailed) -> str:
    module = "espnet3.systems.base.inference_debug"
    call = f"debug_item(config, {error.failures[0]['utterance']!r})"
    return f"from {module} import debug_item; {call}"
