"""``run.py`` of a recipe: check everything that a command asks for, then run its stages."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from omegaconf import DictConfig, OmegaConf

from espnet3.errors import ConfigError, ESPnet3Error, RunFailed
from espnet3.parallel.main_guard import check_is_no_import
from espnet3.systems import canary_command, checks, debug_command, dry_run, parity_command
from espnet3.systems.base.stages import StageSpec
from espnet3.systems.checked import Checked
from espnet3.systems.command_line import Request, parse_command_line
from espnet3.systems.role_configs import disagreements, load_role_configs
from espnet3.utils.config import resolved_container
from espnet3.utils.logging import console_log, git_revision, stage_header, stage_log

if TYPE_CHECKING:
    from espnet3.systems.base.system import BaseSystem

logger = logging.getLogger(__name__)


def launch(system_class: type[BaseSystem], argv: Sequence[str] | None = None) -> None:
    """Run the stages that a command line names; this is all that a recipe's ``run.py`` does.

    Everything is checked before the first stage starts, and every problem reported at once. All
    stages share one cluster. Relative paths are relative to the working directory.

    ``launch`` belongs under ``if __name__ == "__main__":``, for workers import the file too.

    Args:
        system_class: The recipe's system.
        argv: The words after the program's name; the process's own if left out.

    Raises:
        SystemExit: 1 if a stage failed, 2 if the command or a config is wrong, 130 after Ctrl-C.
            An unexpected exception from a stage goes through as it is, and so does every one
            from the item of ``--debug_item``.
    """
    check_is_no_import()
    request = parse_command_line(system_class.stages, argv)
    with _errors_end_it():
        checked = _check(system_class, request)
        if request.dry_run:
            with console_log(logging.WARNING):
                dry_run.show(checked)
            return
        if request.parity is not None:
            with console_log():
                parity_command.run(checked.system()._infer_config(), request.parity)
            return
        if request.canary:
            with console_log():
                canary_command.run(checked.system(), request)
            return
        if request.debug_item is None:
            with console_log():
                _run(checked)
            return
        with console_log():
            found = debug_command.find(checked.system()._infer_config(), request.debug_item)
    with console_log():  # outside, for whatever an item raises is to be seen in full
        debug_command.run(found)


@contextmanager
def _errors_end_it() -> Iterator[None]:
    """End the process on what is raised on purpose, with one sentence and a status."""
    try:
        yield
    except ConfigError as error:
        _stop(str(error), 2)
    except ESPnet3Error as error:
        _stop(str(error), 1)
    except KeyboardInterrupt:
        _stop("interrupted", 130)


def _stop(message: str, status: int) -> None:
    click.echo(f"error: {message}", err=True)
    # Without the cause: its traceback stands in the stage's log.
    raise SystemExit(status) from None


def _check(system_class: type[BaseSystem], request: Request) -> Checked:
    """Look at everything that can be known now.

    Raises:
        ConfigError: listing every problem.
    """
    stages, problems = checks.select_stages(system_class, system_class.stages, request.stages)
    problems += checks.check_limit(stages, request.limit)
    if request.canary:
        problems += checks.check_canary(stages, request.limit, request.dry_run)
        stages = [stage for stage in stages if stage.name == "infer"]
    problems += checks.check_parity(stages, request)
    problems += checks.check_debug_item(stages, request.debug_item, request.limit)
    needed = dict.fromkeys(role for stage in stages for role in stage.roles)
    try:
        configs = load_role_configs(request)
    except ConfigError as error:
        problems += str(error).splitlines()
    else:
        stages = checks.without_idle(system_class, stages, request.stages, configs)
        for stage in stages:
            problems += checks.check_stage(stage, configs)
            problems += checks.check_stats(system_class, stage, configs)
        if "metrics" in needed:
            needed["inference"] = None
        for role, loaded in configs.items():
            if role in needed:
                problems += checks.check_role(role, loaded, configs)
            else:
                problems += checks.check_context(loaded)
    if len(problems) == 1:
        raise ConfigError(problems[0])
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in dict.fromkeys(problems))
        raise ConfigError(f"nothing was started, because of {len(problems)} problems:\n{lines}")
    for stage in stages:
        if stage.name == "infer" and request.limit is not None:
            _limit(configs[stage.roles[0]].config, request.limit)
    return Checked(system_class, request, stages, configs)


def _limit(config: DictConfig, limit: int) -> None:
    parallel = config.get("parallel")
    if isinstance(parallel, DictConfig):
        parallel.pop("limit", None)  # run: keys may stand there too, and would contradict
    OmegaConf.update(config, "run.limit", limit, force_add=True)


def _run(checked: Checked) -> None:
    from espnet3.parallel.parallel import parallel_session

    for sentence in disagreements(checked.configs):
        logger.warning("%s", sentence)
    system = checked.system()
    with parallel_session():
        for stage in checked.stages:
            _run_stage(checked, system, stage)


def _run_stage(checked: Checked, system: BaseSystem, stage: StageSpec) -> None:
    path = checked.log_file(stage)
    used = checked.used_by(stage)
    recipe = used[stage.roles[0]].config.get("recipe_dir") or "."
    header = stage_header(
        f"stage {stage.name} of {checked.system_class.__name__}",
        checked.request.command,
        {role: resolved_container(loaded.config) for role, loaded in used.items()},
        git_revision(Path(str(recipe))),
    )
    with stage_log(path, header):
        logger.info("%s: started, log in %s", stage.name, path)
        try:
            getattr(system, stage.name)()
        except Exception as error:
            if stage.name == "infer" and isinstance(error, RunFailed) and error.failures:
                error.debug = debug_command.command(checked.request, error.failures[0])
            logger.error("%s: failed, see %s", stage.name, path)
            raise
        logger.info("%s: done", stage.name)
