"""Training stages. ``train`` is not built yet, and says so before anything starts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from espnet3.errors import ConfigError, RunFailed

if TYPE_CHECKING:
    from espnet3.components.jobs import Job

logger = logging.getLogger(__name__)

TRAIN_NOT_BUILT = (
    "train is not built yet: train the model with a tool of its own, and name its files under"
    " `model` in the inference config"
)


def collect_stats(config: DictConfig) -> None:
    """Collect shapes and feature statistics of the training and validation data.

    What `publish_stats` names goes to ``<stats_dir>/train`` and ``<stats_dir>/valid``. What is
    there already from an interrupted run is kept and completed. The data sets are built here first,
    to be checked; the model is built on the workers alone.

    Keys of the config: ``stats_dir``, ``dataset`` (with ``train``, and ``valid`` if there is such
    data), ``collect_stats`` (see `StatsOptions`), ``model`` unless a function gives the features,
    ``parallel``, ``run``. Others are for training.

    Args:
        config: The training config. It is not changed.

    Raises:
        ConfigError: Something is wrong in the config. Nothing has been started.
        DataError: A split is empty, or its utterance ids cannot be. Nothing has been started.
        RunFailed: Utterances failed. The other split was done all the same, unless ``on_error`` is
            ``raise``.
        IdentityChanged: A split was done with another setup. It is left as it is; the other one was
            done.
    """
    from espnet3.components.jobs import run_jobs
    from espnet3.parallel.parallel import parallel_session

    with parallel_session(config.get("parallel"), run=config.get("run")):
        run_jobs(_stats_jobs(config), "split", _how_to_debug)


def _stats_jobs(config: DictConfig) -> list[Job]:
    """Build and check what `collect_stats` does, without beginning it."""
    from espnet3.components.data.collect_stats import prepare
    from espnet3.components.data.stats.options import read_options, splits_of

    read_options(config)
    if not config.get("stats_dir"):
        raise ConfigError("stats_dir: is not set; it is where the statistics go")
    splits = splits_of(config)
    if "valid" not in splits:
        logger.warning("dataset.valid: is not set; only statistics of dataset.train are collected")
    return [prepare(config, split, str(config.stats_dir)) for split in splits]


def _how_to_debug(job: Job, error: RunFailed) -> str:
    module = "espnet3.components.data.collect_stats"
    call = f"prepare(config, {job.name!r}, config.stats_dir)"
    return f"from {module} import prepare; {call}.runner.debug({error.failures[0]['position']})"


def train(config: DictConfig) -> None:
    """Refuse.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(TRAIN_NOT_BUILT)
