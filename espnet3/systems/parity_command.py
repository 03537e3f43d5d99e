"""``--parity``: whether batches change what ``infer`` decodes, and what it prints of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from espnet3.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(config: DictConfig, n: int) -> None:
    """Compare a sample of each test set, alone and in batches; no run is touched.

    Args:
        config: As for `infer`.
        n: Items of each test set, about.

    Raises:
        ConfigError: The config is wrong, or has no batches to compare.
        Exception: Whatever an item's code raises.
    """
    from espnet3.parallel.base_runner import BaseRunner
    from espnet3.parallel.config import parse_parallel
    from espnet3.parallel.parallel import parallel_session
    from espnet3.parallel.parity import parity_of
    from espnet3.systems.base.inference import prepare
    from espnet3.systems.base.inference_config import read_config

    plan = read_config(config)
    if not issubclass(plan.runner[0], BaseRunner):
        raise ConfigError(f"runner._target_: {plan.runner[0].__name__} is no BaseRunner")
    settings = parse_parallel(config.get("parallel"), config.get("run"))
    with parallel_session({"n_workers": 1}):  # the model is kept from one test set to the next
        for name in plan.test_sets:
            job = prepare(config, plan, name)
            found = parity_of(job.runner, range(job.n_items), job.durations, n, settings)
            click.echo(f"test set {name}")
            for line in found.lines():
                click.echo(f"  {line}")
