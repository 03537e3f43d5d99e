"""Which backend is to be looked at: by the words of ``run.py``, or by a ``parallel:`` block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from espnet3.errors import ConfigError
from espnet3.parallel.config import ParallelConfig, parse_parallel
from espnet3.systems.base.stages import StageSpec
from espnet3.systems.base.system import BaseSystem
from espnet3.systems.command_line import parse_command_line
from espnet3.systems.role_configs import load_role_configs

HABIT = Path("conf/inference.yaml")
"""Looked at where nothing is said and it is there."""

_PLACES = ("inference_dir", "stats_dir", "exp_dir")


@dataclass(frozen=True)
class Asked:
    """What is to be looked at.

    Attributes:
        parallel: where work runs.
        run_dir: where runs are to lie.
        source: what both are from.
    """

    parallel: ParallelConfig
    run_dir: Path
    source: str


def read(words: Sequence[str]) -> Asked:
    """Read the words after ``espnet3 doctor``.

    ``--parallel_config FILE ...`` is laid over the config that is given beside it, if any is.
    Without any config it is ``conf/inference.yaml``, and without that, workers on this machine.

    Raises:
        ConfigError: a file or its ``parallel:`` block is wrong.
        SystemExit: 2 for an option that ``run.py`` does not have, as argparse ends it.
    """
    stages = (*BaseSystem.stages, StageSpec("doctor", "parallel"))
    request = parse_command_line(stages, words)
    files = dict(request.files)
    over = files.pop("parallel", ())
    if not files and not over and HABIT.is_file():
        over = (HABIT,)
    role = next((role for role in ("inference", "training") if role in files), "inference")
    if not files.get(role) and not over:
        if request.overrides:
            raise ConfigError(
                f"{request.overrides[0]}: name a config, as in --parallel_config FILE"
            )
        return Asked(ParallelConfig(), Path.cwd(), "no config, so env: local")
    files = {role: (*files.get(role, ()), *over)}
    loaded = load_role_configs(replace(request, files=files))[role]
    parallel = parse_parallel(loaded.config.get("parallel"), None, loaded.source)[0]
    places = (_place(loaded.config, key) for key in _PLACES)
    return Asked(parallel, next(filter(None, places), Path.cwd()), loaded.source)


def _place(config: DictConfig, key: str) -> Path | None:
    try:
        value = OmegaConf.select(config, key)
    except OmegaConfBaseException:  # it needs what is not given here
        return None
    return Path(str(value)) if value else None
