"""What is looked at before the first stage starts; every function returns its problems."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from espnet3.errors import ConfigError
from espnet3.systems.base.stages import StageSpec, why_not_built
from espnet3.systems.command_line import Request
from espnet3.systems.targets import targets, why_not_importable
from espnet3.utils.config import LoadedConfig, resolved_container, unresolved

_PUBLICATION = ("pack_model", "upload_model", "pack_demo", "upload_demo")
_CONTEXT = ("recipe_dir", "exp_tag", "exp_dir")


def select_stages(
    system_class: type, stages: Sequence[StageSpec], requested: Iterable[str]
) -> tuple[list[StageSpec], list[str]]:
    """Return the requested stages in declared order, and problems with the rest of them."""
    wanted = list(dict.fromkeys(requested))
    names = [stage.name for stage in stages]
    problems = []
    for name in wanted:
        if name not in (*names, "all"):
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(names)}"
            if name in _PUBLICATION:
                hint = "ESPnet3's stages for packing and publishing are not supported"
            problems.append(f"--stages {name}: no such stage; {hint}")
    selected = [stage for stage in stages if "all" in wanted or stage.name in wanted]
    for stage in selected:
        reason = why_not_built(system_class, stage.name)
        if reason and stage.name in wanted:
            problems.append(f"--stages {stage.name}: {reason}")
    built = [stage for stage in selected if not why_not_built(system_class, stage.name)]
    return built, problems


def check_limit(stages: Iterable[StageSpec], limit: int | None) -> list[str]:
    """Check that ``--limit`` has a meaning for the stages."""
    if limit is None:
        return []
    names = [stage.name for stage in stages]
    problems = []
    if limit < 1:
        problems.append(f"--limit {limit}: must be 1 or more")
    if "measure" in names:
        problems.append(
            "--limit: a limited run is not merged, so there is nothing for measure to score;"
            " leave measure out"
        )
    elif "infer" not in names:
        problems.append("--limit: only infer can be limited, and it is not among the stages")
    return problems


def check_debug_item(stages: Iterable[StageSpec], item: str | None, limit: int | None) -> list[str]:
    """Check that ``--debug_item`` has a meaning beside the stages and ``--limit``."""
    if item is None:
        return []
    problems = []
    if [stage.name for stage in stages] != ["infer"]:
        problems.append("--debug_item: is for the infer stage alone; give --stages infer")
    if not item.strip():
        problems.append("--debug_item: is empty; give an utterance id, or '#0' for the first item")
    if limit is not None:
        problems.append("--debug_item: does one item whatever --limit says; leave --limit out")
    return problems


def check_parity(stages: Iterable[StageSpec], request: Request) -> list[str]:
    """Check that ``--parity`` has a meaning beside the stages and other options."""
    if request.parity is None:
        return []
    problems = []
    if [stage.name for stage in stages] != ["infer"]:
        problems.append("--parity: is for the infer stage alone; give --stages infer")
    if request.parity < 1:
        problems.append(f"--parity: must be 1 or more, not {request.parity}")
    others = {
        "--limit": request.limit is not None,
        "--debug_item": request.debug_item is not None,
        "--canary": request.canary,
        "--dry_run": request.dry_run,
    }
    given = [name for name, is_given in others.items() if is_given]
    if given:
        problems.append(f"--parity: does nothing else; leave {', '.join(given)} out")
    return problems


def check_canary(stages: Iterable[StageSpec], limit: int | None, dry_run: bool) -> list[str]:
    """Check that ``--canary`` has a meaning beside the stages and other options."""
    problems = []
    if "infer" not in [stage.name for stage in stages]:
        problems.append("--canary: tries an item of infer, which is not among the stages")
    if limit is not None:
        problems.append("--canary: does one item whatever --limit says; leave --limit out")
    if dry_run:
        problems.append("--canary: --dry_run runs nothing; leave one of the two out")
    return problems


def check_stage(stage: StageSpec, configs: Mapping[str, LoadedConfig]) -> list[str]:
    """Check that a stage's configs were given and have the keys that it needs."""
    problems = [
        f"stage {stage.name} needs --{role}_config" for role in stage.roles if role not in configs
    ]
    if stage.roles[0] not in configs:
        return problems
    loaded = configs[stage.roles[0]]
    for key in stage.required:
        if not _has_value(loaded.config, key):
            problems.append(f"{loaded.where(key)}: stage {stage.name} needs it, and it is not set")
    if not _has_value(loaded.config, stage.log_dir):
        problems.append(
            f"{loaded.where(stage.log_dir)}: stage {stage.name} writes there, and it is not set;"
            f" set it{_how_to_place(stage, configs)}"
        )
    return problems


def without_idle(
    system_class: type,
    stages: list[StageSpec],
    requested: Iterable[str],
    configs: Mapping[str, LoadedConfig],
) -> list[StageSpec]:
    """Leave ``collect_stats`` out of ``all`` where the training config names no features."""
    if "collect_stats" in requested or _has_its_own_stats(system_class):
        return stages
    config = configs["training"].config if "training" in configs else {}
    if config.get("collect_stats") is not None or config.get("model") is not None:
        return stages
    return [stage for stage in stages if stage.name != "collect_stats"]


def check_stats(
    system_class: type, stage: StageSpec, configs: Mapping[str, LoadedConfig]
) -> list[str]:
    """Check what ``collect_stats`` reads, unless the recipe has a stage of its own for it."""
    loaded = configs.get("training")
    if stage.name != "collect_stats" or loaded is None or _has_its_own_stats(system_class):
        return []
    from espnet3.components.data.stats.options import why_no_stats

    if unresolved(loaded.config, loaded.where):
        return []  # reported as such
    plain = resolved_container(loaded.config)
    problems = [f"{loaded.where(key)}: {text}" for key, text in why_no_stats(plain)]
    function = OmegaConf.select(loaded.config, "collect_stats.collect_feats")
    if isinstance(function, str) and (reason := why_not_importable(function)):
        problems.append(f"{loaded.where('collect_stats.collect_feats')}: {reason}")
    return problems


def _has_its_own_stats(system_class: type) -> bool:
    from espnet3.systems.base.system import BaseSystem

    return getattr(system_class, "collect_stats", None) is not BaseSystem.collect_stats


def check_role(role: str, loaded: LoadedConfig, configs: Mapping[str, LoadedConfig]) -> list[str]:
    """Check the content of a config that a requested stage uses."""
    problems = unresolved(loaded.config, loaded.where)
    contract = OmegaConf.to_container(loaded.config, resolve=False)
    if isinstance(contract, dict) and contract.get("contract") is not None:
        problems.append(
            f"{loaded.where('contract')}: contract: is not supported yet; use output_fn /"
            " format_output"
        )
    if problems:
        return problems  # the rest reads resolved values
    plain = resolved_container(loaded.config)
    for key, name in targets(plain):
        reason = why_not_importable(name)
        if reason:
            problems.append(f"{loaded.where(key)}: {reason}")
    problems += _check_misplaced(plain, loaded)
    problems += _check_blocks(plain, loaded)
    if role == "inference":
        problems += _check_inference(plain, loaded)
    if role == "metrics":
        problems += _check_metrics(plain, loaded, "inference" in configs)
    return problems


def check_context(loaded: LoadedConfig) -> list[str]:
    """Check a config that is there only to say where the experiment lies."""
    return unresolved(loaded.config, loaded.where, keys=_CONTEXT)


def _has_value(config: DictConfig, key: str) -> bool:
    try:
        value = OmegaConf.select(config, key, throw_on_missing=True)
    except OmegaConfBaseException:
        return True  # ??? or an interpolation that fails: reported as such
    return value is not None and value != "" and value != []


def _how_to_place(stage: StageSpec, configs: Mapping[str, LoadedConfig]) -> str:
    if stage.log_dir == "inference_dir" and "inference" not in configs:
        return ", or give --inference_config"
    if stage.log_dir in ("inference_dir", "exp_dir") and "training" not in configs:
        return ", set exp_dir or exp_tag, or give --training_config"
    return ""


def _check_misplaced(plain: dict[str, Any], loaded: LoadedConfig) -> list[str]:
    """Refuse keys on the top level that nothing reads there, but that mean something elsewhere."""
    from espnet3.parallel.config_check import MISPLACED

    return [f"{loaded.where(key)}: {MISPLACED[key]}" for key in plain if key in MISPLACED]


def _check_blocks(plain: dict[str, Any], loaded: LoadedConfig) -> list[str]:
    if plain.get("parallel") is None and plain.get("run") is None:
        return []
    from espnet3.parallel.config import parse_parallel

    try:
        parse_parallel(plain.get("parallel"), plain.get("run"), source=loaded.source)
    except ConfigError as error:
        return [str(error)]
    return []


def _check_inference(plain: dict[str, Any], loaded: LoadedConfig) -> list[str]:
    problems = []
    dataset = plain.get("dataset")
    tests = dataset.get("test") if isinstance(dataset, dict) else None
    if tests is not None and not isinstance(tests, list):
        problems.append(f"{loaded.where('dataset.test')}: must be a list of test sets")
        tests = None
    names: list[str] = []
    for index, entry in enumerate(tests or []):
        name = entry.get("name") if isinstance(entry, dict) else None
        where = loaded.where(f"dataset.test.{index}.name")
        if not isinstance(name, str) or not name:
            problems.append(f"{where}: every test set needs a name: its output directory's")
        elif name in names:
            problems.append(f"{where}: two test sets have the name {name!r}")
        names.append(str(name))
    if isinstance(plain.get("output_fn"), str):
        reason = why_not_importable(plain["output_fn"])
        problems += [f"{loaded.where('output_fn')}: {reason}"] if reason else []
    return problems


def _check_metrics(plain: dict[str, Any], loaded: LoadedConfig, inference_given: bool) -> list[str]:
    metrics = plain.get("metrics")
    if metrics is None:
        return []  # reported as a required key
    if not isinstance(metrics, list):
        return [f"{loaded.where('metrics')}: must be a list of entries with metric: and inputs:"]
    problems = []
    for index, entry in enumerate(metrics):
        metric = entry.get("metric") if isinstance(entry, dict) else None
        if not isinstance(metric, dict) or "_target_" not in metric:
            where = loaded.where(f"metrics.{index}.metric")
            problems.append(f"{where}: every metric needs a block with a _target_")
            continue
        inputs = entry.get("inputs")
        sources = inputs.values() if isinstance(inputs, dict) else inputs or []
        needs = [source for source in sources if str(source).startswith("dataset:")]
        if needs and not inference_given:
            problems.append(
                f"{loaded.where(f'metrics.{index}.inputs')}: {needs[0]} is read from the test set,"
                " which the inference config defines; give --inference_config"
            )
    return problems
