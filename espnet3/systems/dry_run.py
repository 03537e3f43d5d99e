"""``--dry_run``: what a command would do, from the configs and from what is on disk already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from omegaconf import OmegaConf

from espnet3.errors import ESPnet3Error
from espnet3.parallel.engine.files import LOGS
from espnet3.systems.base.stages import StageSpec
from espnet3.systems.checked import Checked
from espnet3.utils.config import resolved_container
from espnet3.utils.masking import mask_secrets

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from espnet3.components.jobs import Job
    from espnet3.parallel.config import ParallelConfig, RunConfig

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
        if stage.name == "collect_stats":
            problems += _show_statistics(checked)
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
    """Return one directory per test set or split, else the directory that holds the log."""
    folder = Path(str(OmegaConf.select(OmegaConf.create(dict(plain)), stage.log_dir)))
    dataset = plain.get("dataset")
    tests = dataset.get("test") if stage.name == "infer" and isinstance(dataset, dict) else None
    if stage.name == "collect_stats" and isinstance(dataset, dict):
        return [folder / split for split in ("train", "valid") if dataset.get(split)]
    return [folder / test["name"] for test in tests] if tests else [folder]


def _show_inference(checked: Checked) -> list[str]:
    """Print the plan of every test set and how workers are started; return what would fail."""
    from espnet3.systems.base.inference import prepare
    from espnet3.systems.base.inference_config import read_config
    from espnet3.systems.base.system import BaseSystem

    cls = checked.system_class
    if cls.infer is not BaseSystem.infer and cls._infer_config is BaseSystem._infer_config:
        click.echo(
            f"  plan: not known, as {cls.__name__} has an infer() of its own (let it give its "
            "config by _infer_config() to have a plan)"
        )
        return []

    config = checked.system()._infer_config()
    plan = read_config(config)
    jobs = {name: partial(prepare, config, plan, name) for name in plan.test_sets}
    return _show_runs(checked, config, "test set", jobs, Path(plan.inference_dir))


def _show_statistics(checked: Checked) -> list[str]:
    """Print the plan of each split; return what would fail."""
    from espnet3.components.data.collect_stats import prepare
    from espnet3.components.data.stats.options import splits_of
    from espnet3.systems.base.system import BaseSystem

    cls = checked.system_class
    if cls.collect_stats is not BaseSystem.collect_stats:
        click.echo(f"  plan: not known, as {cls.__name__} has a collect_stats() of its own")
        return []
    config = checked.configs["training"].config
    place = Path(str(config.stats_dir))
    jobs = {split: partial(prepare, config, split, place) for split in splits_of(config)}
    return _show_runs(checked, config, "split", jobs, place)


def _show_runs(
    checked: Checked,
    config: DictConfig,
    kind: str,
    jobs: Mapping[str, Callable[[], Job]],
    place: Path,
) -> list[str]:
    """Print the plan of each run of a stage and how workers are started; return what would fail."""
    from espnet3.parallel.config import parse_parallel

    settings = parse_parallel(config.get("parallel"), config.get("run"))
    problems: list[str] = []
    first_logs: Path | None = None
    may_come = any(stage.name == "create_dataset" for stage in checked.stages)
    is_known = True
    for name, prepare in jobs.items():
        click.echo(f"  {kind} {name}")
        logs: Path | None = None
        try:
            problem, logs = _show_job(prepare(), kind, settings, place)
        except Exception as error:  # building a data set is anybody's code
            click.echo(f"    plan: not known now: {_text(error)}")
            problem = "" if may_come else f"{kind} {name} cannot be planned"
            is_known = False
        problems += [problem] if problem else []
        first_logs = first_logs or logs
    if first_logs is None and is_known:
        if not problems:
            click.echo("  workers: none is started, for nothing is left to do")
        return problems
    logs = first_logs or place.absolute() / next(iter(jobs)) / LOGS
    return problems + _show_starts(settings, logs)


def _show_job(job: Job, kind: str, settings: Settings, place: Path) -> tuple[str, Path | None]:
    """Print the plan of one; return what would fail, and where its jobs' logs would go."""
    from espnet3.parallel.base_runner import BaseRunner
    from espnet3.parallel.run_plan import plan_of

    if not isinstance(job.runner, BaseRunner):
        its_kind = type(job.runner).__name__
        click.echo(
            f"    items: {job.n_items}; what is left only {its_kind} knows, as no BaseRunner"
        )
        return "", place.absolute() / job.name / LOGS
    run_plan = plan_of(job.runner, range(job.n_items), job.durations, settings)
    for line in run_plan.lines():
        click.echo("    " + line.replace("\n", "\n    "))
    if run_plan.outlook.refusal:
        return f"{kind} {job.name} would be refused", None
    return "", run_plan.run_dir.absolute() / LOGS if run_plan.outlook.left else None


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
