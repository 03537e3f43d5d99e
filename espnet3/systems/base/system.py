"""The stages that every recipe has, as methods over its configs."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import click
from omegaconf import DictConfig

from espnet3.errors import ConfigError, DataError
from espnet3.systems.base import training
from espnet3.systems.base.stages import StageSpec, check_stages, not_built
from espnet3.utils.config import resolved_container

logger = logging.getLogger(__name__)

_BUILDER_STEPS = ("is_source_prepared", "prepare_source", "is_built", "build")


class BaseSystem:
    """A recipe's stages; each reads everything it needs from its config.

    A subclass adds a stage as a method without arguments and a :class:`StageSpec` in ``stages``,
    which is checked when the class is defined. ``launch`` runs the stages in the declared order,
    whatever the order on the command line.

    Args:
        training_config: For ``create_dataset``, ``collect_stats`` and ``train``.
        inference_config: For ``infer``; ``measure`` reads the test sets' definition from it.
        metrics_config: For ``measure``.
    """

    stages: ClassVar[tuple[StageSpec, ...]] = (
        StageSpec("create_dataset", "training", "data_dir", required=("dataset",)),
        StageSpec("collect_stats", "training", "stats_dir", required=("dataset",)),
        StageSpec("train", "training", "exp_dir", required=("dataset", "model")),
        StageSpec(
            "infer",
            "inference",
            "inference_dir",
            required=(
                *("dataset.test", "model", "input_key"),
                *("provider._target_", "runner._target_"),
            ),
        ),
        StageSpec("measure", "metrics", "inference_dir", required=("metrics",)),
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the subclass's stages against its methods."""
        super().__init_subclass__(**kwargs)
        check_stages(cls)

    def __init__(
        self,
        training_config: DictConfig | None = None,
        inference_config: DictConfig | None = None,
        metrics_config: DictConfig | None = None,
    ) -> None:
        self.training_config = training_config
        self.inference_config = inference_config
        self.metrics_config = metrics_config

    def create_dataset(self) -> None:
        """Prepare and build the data of every distinct ``data_src`` under ``dataset``.

        The builder's methods get the keys of ``create_dataset:`` as keyword arguments. What is
        there already is left alone, and so is a source without a builder, such as a Kaldi data
        directory. What they give to runners is done where ``parallel:`` says.

        Raises:
            ConfigError: no data set is configured, or the keys do not fit the builder.
            DataError: a builder has run and still says that its data is not there.
        """
        config = _given(self.training_config, "create_dataset", "training")
        from espnet3.components.data.dataset_module import load_dataset_module
        from espnet3.parallel.parallel import parallel_session

        plain = resolved_container(config)
        arguments = plain.get("create_dataset") or {}
        with parallel_session(plain.get("parallel"), run=plain.get("run")):
            for data_src in _data_sources(plain.get("dataset") or {}):
                module = load_dataset_module(data_src, plain.get("recipe_dir"))
                name = data_src or "dataset/ of the recipe"
                builder = getattr(module, "DatasetBuilder", None)
                if builder is None:
                    logger.info("%s: has no DatasetBuilder, so there is nothing to build", name)
                else:
                    _run_builder(builder(), name, arguments)

    def collect_stats(self) -> None:
        """Collect shapes and feature statistics of the training and validation data."""
        training.collect_stats(_given(self.training_config, "collect_stats", "training"))

    @not_built(training.TRAIN_NOT_BUILT)
    def train(self) -> None:
        """Train the model; not built yet."""
        training.train(_given(self.training_config, "train", "training"))

    def infer(self) -> Any:
        """Decode every test set of the inference config."""
        from espnet3.systems.base.inference import infer

        return infer(self._infer_config())

    def _infer_config(self) -> DictConfig:
        """The config that ``infer`` works on, and with it ``--dry_run``, ``--canary`` and so on.

        A subclass whose ``infer`` needs another one than it was given makes that here.
        """
        return _given(self.inference_config, "infer", "inference")

    def measure(self) -> Any:
        """Score what ``infer`` wrote; the inference config is used where one was given."""
        config = _given(self.metrics_config, "measure", "metrics")
        from espnet3.systems.base.metric import measure, summary_table

        results = measure(config, inference_config=self.inference_config)
        click.echo(summary_table(results))
        place = Path(config.inference_dir).absolute()
        click.echo(
            f"Everything lies in {place}: this table in metrics.md, and for each test set"
            " hypotheses (text, *.scp, hyp.trn) and alignments (*_alignment.txt)."
        )
        return results


def _given(config: DictConfig | None, stage: str, role: str) -> DictConfig:
    if config is None:
        raise ConfigError(f"{stage} needs a {role} config: pass {role}_config=")
    return config


def _data_sources(dataset: dict[str, Any]) -> Iterator[str | None]:
    """Yield each distinct ``data_src`` of train, valid and test; None is the recipe's own."""
    seen: set[str | None] = set()
    for split in ("train", "valid", "test"):
        entries = dataset.get(split) or []
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise ConfigError(f"training config: dataset.{split}: must be a list of data sets")
        for data_src in (entry.get("data_src") for entry in entries):
            if data_src not in seen:
                seen.add(data_src)
                yield data_src
    if not seen:
        raise ConfigError(
            "training config: dataset: has no entry under train, valid or test, so there is"
            " nothing to create"
        )


def _run_builder(builder: Any, name: str, arguments: dict[str, Any]) -> None:
    for step in _BUILDER_STEPS:
        try:
            inspect.signature(getattr(builder, step)).bind(**arguments)
        except TypeError as error:
            raise ConfigError(
                f"training config: create_dataset: its keys ({', '.join(arguments) or 'none'}) do"
                f" not fit {type(builder).__name__}.{step}() of {name}: {error}"
            ) from error
    if builder.is_source_prepared(**arguments):
        logger.info("%s: the source is there", name)
    else:
        logger.info("%s: preparing the source", name)
        builder.prepare_source(**arguments)
    if builder.is_built(**arguments):
        logger.info("%s: already built", name)
        return
    logger.info("%s: building", name)
    builder.build(**arguments)
    if not builder.is_built(**arguments):
        raise DataError(
            f"{name}: {type(builder).__name__}.build() has returned, but is_built() still says"
            " no: something is missing that it checks for; see the stage's log"
        )


check_stages(BaseSystem)
