"""The ``infer`` stage: every test set of a config, decoded on one cluster."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from espnet3.components.jobs import Job, job_over, run_jobs
from espnet3.errors import ConfigError, RunFailed
from espnet3.parallel.parallel import parallel_session
from espnet3.systems.base.inference_config import InferencePlan, read_config


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
        run_jobs(jobs, "test set", _how_to_debug)


def prepare(config: DictConfig, plan: InferencePlan, name: str) -> Job:
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
    make_runner = partial(_make_runner, plan, provider, Path(plan.inference_dir) / name)
    return job_over(dataset, name, f"test set {name!r}", make_runner)


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


def _how_to_debug(job: Job, error: RunFailed) -> str:
    module = "espnet3.systems.base.inference_debug"
    call = f"debug_item(config, {error.failures[0]['utterance']!r})"
    return f"from {module} import debug_item; {call}"
