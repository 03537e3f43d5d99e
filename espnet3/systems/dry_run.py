"""``--dry_run``: what a command would do, from the configs and from what is on disk already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from omegaconf import OmegaConf

from espnet3.errors import ESPnet3Error
from espnet3.systems.base.stages import StageSpec
from espnet3.systems.checked import Checked
from espnet3.utils.config import resolved_container
from espnet3.utils.masking import mask_secrets

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from espnet3.parallel.config import ParallelConfig, RunConfig
    from espnet3.systems.base.inference_config import InferencePlan

    Settings = tuple[ParallelConfig, RunConfig]


def show(checked: Checked) -> None:
    """Print what a run would do.

    Raises:
        ESPnet3Error: Something of it would fail, as far as that can be seen now.
    """
    problems: list[str] = []
    for stage in checked.stages:
        click.echo(f"{stage.name}")
        debugged = checked.request.debug_item
        if debugged is not None:
            click.echo(f"  item: {debugged}, alone and in this process; nothing is written")
        else:
            click.echo(f"  log: {checked.log_file(stage)}")
        for role, loaded in checked.used_by(stage).items():
            click.echo(f"  {role} config: {loaded.source}")
        if debugged is not None:
            continue
        plain = resolved_container(checked.configs[stage.roles[0]].config)
        _show_settings(plain)
        for output in _outputs(stage, plain):
            click.echo(f"  output: {output}")
        if stage.name == "infer":
            problems += _show_inference(checked)
    if problems:
        raise ESPnet3Error("as it stands, this would fail: " + "; ".join(problems))


def _show_settings(plain: Mapping[str, Any]) -> None:
    if plain.get("parallel") is None and plain.get("run") is None:
        return
    from espnet3.parallel.config import parse_parallel

    where, how = parse_parallel(plain.get("parallel"), plain.get("run"))  # was checked
    for name, block in (("parallel", vars(where)), ("run", vars(how))):
        values = mask_secrets(block).items()
        click.echo(f"  {name}: " + ", ".join(f"{key}={value}" for key, value in values))


def _outputs(stage: StageSpec, plain: Mapping[str, Any]) -> list[Path]:
    """Return one directory per test set for infer, else the directory that holds the log."""
    folder = Path(str(OmegaConf.select(OmegaConf.create(dict(plain)), stage.log_dir)))
    dataset = plain.get("dataset")
    tests = dataset.get("test") if stage.name == "infer" and isinstance(dataset, dict) else None
    return [folder / test["name"] for test in tests] if tests else [folder]


def _show_inference(checked: Checked) -> list[str]:
    """Print the plan of every test set and how workers are started; return what would fail."""
    from espnet3.systems.base.system import BaseSystem

    cls = checked.system_class
    if cls.infer is not BaseSystem.infer and cls._infer_config is BaseSystem._infer_config:
        click.echo(
            f"  plan: not known, as {cls.__name__} has an infer() of its own (let it give its "
            "config by _infer_config() to have a plan)"
        )
        return []
    from espnet3.parallel.config import parse_parallel
    from espnet3.systems.base.inference_config import read_config

    config = checked.system()._infer_config()
    settings = parse_parallel(config.get("parallel"), config.get("run"))
    plan, problems, first_logs = read_config(config), [], None
    may_come = any(stage.name == "create_dataset" for stage in checked.stages)
    is_known = True
    for name in plan.test_sets:
        click.echo(f"  test set {name}")
        try:
            problem, logs = _show_test_set(config, plan, name, settings)
        except Exception as error:  # building a data set is anybody's code
            click.echo(f"    plan: not known now: {_text(error)}")
            problem, logs = "" if may_come else f"test set {name} cannot be planned", None
            is_known = False
        problems += [problem] if problem else []
        first_logs = first_logs or logs
    if first_logs is None and is_known:
        if not problems:
            click.echo("  workers: none is started, for nothing is left to do")
        return problems
    logs = first_logs or Path(plan.inference_dir).absolute() / plan.test_sets[0] / "logs"
    return problems + _show_starts(settings, logs)


def _show_test_set(
    config: DictConfig, plan: InferencePlan, name: str, settings: Settings
) -> tuple[str, Path | None]:
    """Print the plan of one; return what would fail, and where its jobs' logs would go."""
    from espnet3.parallel.base_runner import BaseRunner
    from espnet3.parallel.run_plan import plan_of
    from espnet3.systems.base.inference import prepare

    job = prepare(config, plan, name)
    if not isinstance(job.runner, BaseRunner):
        kind = type(job.runner).__name__
        click.echo(f"    items: {job.n_items}; what is left only {kind} knows, as no BaseRunner")
        return "", Path(plan.inference_dir).absolute() / name / "logs"
    run_plan = plan_of(job.runner, range(job.n_items), job.durations, settings)
    for line in run_plan.lines():
        click.echo("    " + line.replace("\n", "\n    "))
    if run_plan.outlook.refusal:
        return f"test set {name} would be refused", None
    return "", run_plan.run_dir.absolute() / "logs" if run_plan.outlook.left else None


def _show_starts(settings: Settings, logs: Path) -> list[str]:
    from espnet3.parallel.backends.preview import starts

    try:
        for start in starts(*settings, logs):
            click.echo(f"  workers: {start.what}{':' if start.text else ''}")
            if start.text:
                click.echo(f"\n{start.text}\n")
    except ESPnet3Error as error:
        click.echo(f"  workers: cannot be started from here: {error}")
        return ["no worker can be started from here"]
    return []


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, ESPnet3Error) else f"{type(error).__name__}: {error}"
