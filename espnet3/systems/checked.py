"""A command that was checked, as what runs it, or shows it, needs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from espnet3.systems.base.stages import StageSpec
from espnet3.systems.command_line import Request
from espnet3.utils.config import LoadedConfig

if TYPE_CHECKING:
    from espnet3.systems.base.system import BaseSystem


@dataclass(frozen=True)
class Checked:
    """A checked command: nothing in it can turn out wrong for a reason known beforehand."""

    system_class: type[BaseSystem]
    request: Request
    stages: list[StageSpec]
    configs: dict[str, LoadedConfig]

    def log_file(self, stage: StageSpec) -> Path:
        """The stage's log."""
        config = self.configs[stage.roles[0]].config
        return Path(str(OmegaConf.select(config, stage.log_dir))) / f"{stage.name}.log"

    def used_by(self, stage: StageSpec) -> dict[str, LoadedConfig]:
        """The configs that a stage reads; measure also reads the test sets' definition."""
        extra = ("inference",) if "metrics" in stage.roles else ()
        return {role: self.configs[role] for role in (*stage.roles, *extra) if role in self.configs}

    def system(self) -> BaseSystem:
        """The recipe's system, with its configs."""
        configs = {f"{role}_config": loaded.config for role, loaded in self.configs.items()}
        return self.system_class(**configs)
