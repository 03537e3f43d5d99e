"""Training stages. Neither is built yet: both say so before anything starts."""

from __future__ import annotations

from omegaconf import DictConfig

from espnet3.errors import ConfigError

COLLECT_STATS_NOT_BUILT = "collect_stats is not built yet: it comes with data preparation"
TRAIN_NOT_BUILT = (
    "train is not built yet: train the model with a tool of its own, and name its files under"
    " `model` in the inference config"
)


def collect_stats(config: DictConfig) -> None:
    """Refuse.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(COLLECT_STATS_NOT_BUILT)


def train(config: DictConfig) -> None:
    """Refuse.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(TRAIN_NOT_BUILT)
