"""Shapes and feature statistics of a data set, for training: the work of ``collect_stats``."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig, OmegaConf, open_dict

from espnet3.components.config_identity import builds_its_own_way
from espnet3.components.data.offers import utterance_id
from espnet3.components.data.stats.features import FunctionFeatures, ModelFeatures
from espnet3.components.data.stats.identity import stats_code, stats_identity
from espnet3.components.data.stats.merge import publish_stats
from espnet3.components.data.stats.options import build_function, read_options
from espnet3.components.data.stats.record import StatsRecord, record_of
from espnet3.components.data.stats.writer import StatsWriter
from espnet3.components.instantiate import as_config, build_model, build_organizer, resolve_device
from espnet3.components.jobs import Job, job_over
from espnet3.errors import ConfigError
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.engine.identity import file_stamps
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.runner_identity import plain
from espnet3.parallel.worker.env import keep_model
from espnet3.utils.ark import import_kaldiio
from espnet3.utils.resolvers import register_resolvers


def collect_stats(config: Any, split: str, stats_dir: str | Path) -> Path:
    """Collect the shapes and statistics of one split, where the surrounding session says.

    Called again after any interruption it goes on, with any number of workers; what it publishes is
    the same to the last bit.

    Args:
        config: A training config or a mapping with ``dataset``, and ``model`` or
            ``collect_stats.collect_feats``; see `StatsOptions` and `CollectStatsProvider`.
        split: ``train`` or ``valid``.
        stats_dir: What `publish_stats` names goes to ``<stats_dir>/<split>``.

    Returns:
        ``<stats_dir>/<split>``.

    Raises:
        ConfigError: Something is wrong in the config. Nothing has been started.
        DataError: The split is empty, or its utterance ids cannot be.
        RunFailed: Utterances failed; nothing was published.
        IdentityChanged: The run had begun with another setup.
    """
    job = prepare(config, split, stats_dir)
    job.run()
    return Path(job.runner.run_dir)


def prepare(config: Any, split: str, stats_dir: str | Path) -> Job:
    """Build and check the data of a split, and the runner that is to collect its statistics."""
    options = read_options(config)
    provider = CollectStatsProvider(config, split)
    dataset = provider.build_dataset(provider.config, split)
    make_runner = partial(
        CollectStatsRunner,
        provider,
        batch_size=options.batch_size,
        output_dir=stats_dir,
        shard_subdir=split,
    )
    return job_over(dataset, split, f"dataset.{split}", make_runner)


class CollectStatsProvider(EnvironmentProvider):
    """Builds ``dataset`` and ``features`` from a training config, once in each worker process.

    ``features`` is called with a list of items and gives a dict of arrays for each: a
    `FunctionFeatures` or `ModelFeatures`. A recipe with needs of its own overrides `build_dataset`
    or `build_features`.

    Args:
        config: The training config. It is copied and never changed.
        split: ``train`` or ``valid``.
    """

    def __init__(self, config: Any, split: str) -> None:
        super().__init__(copy.deepcopy(as_config(config)))
        self.split = split

    def build_env_local(self) -> dict[str, Any]:
        """Build the env in this process."""
        return self.build_worker_setup_fn()()

    def build_worker_setup_fn(self) -> Callable[[], dict[str, Any]]:
        """Give a function that builds the env in a worker."""
        cls, config, split, key = type(self), self.config, self.split, self.model_key()
        write = read_options(config).write_collected_feats

        def build() -> dict[str, Any]:
            register_resolvers()  # a fresh process knows only OmegaConf's own
            if write:
                import_kaldiio()  # before the first utterance, not after it
            return {
                "dataset": cls.build_dataset(config, split),
                "features": keep_model(key, lambda: cls.build_features(config)),
                "write_collected_feats": write,
            }

        return build

    def model_key(self) -> str | None:
        """What the features are made by; a worker keeps that for the next split.

        None where a subclass makes them in its own way, which may depend on anything.
        """
        if type(self).build_features is not CollectStatsProvider.build_features:
            return None
        blocks = [self.config.get("model"), self.config.get("collect_stats")]
        made = [OmegaConf.to_container(b, resolve=True) if b is not None else None for b in blocks]
        device = [self.config.get(key) for key in ("device", "device_index", "local_rank")]
        return json.dumps(["stats", plain(made), plain(device), file_stamps(made)], sort_keys=True)

    @staticmethod
    def build_dataset(config: DictConfig, split: str) -> Any:
        """Build ``dataset.<split>``, with preprocessors as for evaluation: nothing is augmented.

        Raises:
            ConfigError: There is no such split.
        """
        organizer = build_organizer(config.dataset, config.get("recipe_dir"), train_mode=False)
        dataset = getattr(organizer, split, None)
        if dataset is None:
            raise ConfigError(f"dataset.{split}: is not set")
        return dataset

    @staticmethod
    def build_features(config: DictConfig) -> Any:
        """Build what gives the features: the function of the config, else its ``model``.

        The model is built without the keys ``normalize`` and ``normalize_conf``, as in ESPnet:
        these ask for the statistics that are to be collected.
        """
        function = read_options(config).collect_feats
        if function is not None:
            name = function if isinstance(function, str) else function["_target_"]
            return FunctionFeatures(build_function(function), name)
        config = copy.deepcopy(config)
        with open_dict(config):
            for key in ("normalize", "normalize_conf"):
                config.model.pop(key, None)
        model = build_model(config)
        # PyTorch is asked for a device only by a model that may be on one.
        return ModelFeatures(model, resolve_device(config) if hasattr(model, "to") else "cpu")


class CollectStatsRunner(BaseRunner):
    """Collects shapes and statistics of a data set; see `publish_stats` for what it writes.

    The env must hold ``dataset`` and ``features`` (see `CollectStatsProvider`), and may hold
    ``write_collected_feats``.
    """

    per_item_output: ClassVar[bool] = True
    _by_count_because: ClassVar[str] = "sums depend on the order in which they are added up"
    dataset_fingerprint: str | None = None
    """What the data set says of its content, if it does; a change of it refuses to resume."""

    @classmethod
    def forward(
        cls,
        idx: Any,
        dataset: Any = None,
        features: Any = None,
        write_collected_feats: bool = False,
        **env: Any,
    ) -> StatsRecord | list[StatsRecord]:
        """Collect one item, or a batch.

        Raises:
            DataError: An item has no features, or such as have no sums.
        """
        batched = isinstance(idx, (list, tuple))
        indices = list(idx) if batched else [idx]
        items = [dataset[i] for i in indices]
        records = [
            record_of(utterance_id(dataset, i, item), item, given, keep=write_collected_feats)
            for i, item, given in zip(indices, items, features(items), strict=True)
        ]
        return records if batched else records[0]

    @staticmethod
    def open_writers(shard_dir: Path, **env: Any) -> dict[str, Any]:
        """Begin a shard."""
        return {"stats": StatsWriter(Path(shard_dir))}

    @staticmethod
    def write_record(
        writers: dict[str, Any],
        result: StatsRecord | Sequence[StatsRecord],
        state: dict[str, Any],
        **env: Any,
    ) -> None:
        """Write the records of one unit: all of them, or with `RecordRejected` nothing."""
        writers["stats"].write(result)

    def merge(self, shard_dirs: list[Path]) -> Path:
        """Publish everything in the run directory.

        Returns:
            The run directory.
        """
        publish_stats(shard_dirs, self.run_dir)
        return self.run_dir

    def identity(self) -> dict[str, Any]:
        """What decides the results; see `stats_identity`."""
        base = super().identity()
        own_way = builds_its_own_way(type(self.provider), CollectStatsProvider)
        said: Mapping[str, Any] = stats_identity(self.provider, base, self.batch_size, own_way)
        if self.dataset_fingerprint is None:
            return {**said}
        return {**said, "dataset_fingerprint": self.dataset_fingerprint}

    def code_identity(self) -> dict[str, str]:
        """A hash for each module of the user's code that this run needs."""
        code = None
        if not builds_its_own_way(type(self.provider), CollectStatsProvider):
            code = stats_code(type(self), self.provider)
        return super().code_identity() if code is None else code
