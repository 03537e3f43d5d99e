"""The ``model:`` block of an inference config: what ESPnet2's class of that task would get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from espnet3.migrate.findings import Fate, Finding, Place
from espnet3.migrate.run.decode_conf import DecodeSetting, read_decode_conf
from espnet3.migrate.run.options import Option, Options, tables
from espnet3.migrate.run.tasks import TASKS, Task, module_of, passed
from espnet3.migrate.run.weights import MISSING, add_weights
from espnet3.migrate.shell_text import NotUnderstood, words

_OF_THE_COMMAND = {
    "batch_size": "here `batch_size` gives the model lists of items; ESPnet2's classes take one",
    "num_workers": "items are read by the workers themselves",
    "log_level": "logging is a matter of the program",
    "ngpu": "the device comes from the parallel block",
}
_UNKNOWN = Task(configs=("inference_config", "decode_config"))


@dataclass
class ModelBlock:
    """A model block.

    Attributes:
        lines: Per key its value and a comment; `MISSING` marks what a person must fill in.
        module: Of ``espnet2.bin``; "" if none is known.
        configs: The decode configs that were read.
        findings: What became of each setting.
        decided: The options that took part.
    """

    lines: dict[str, tuple[Any, str]] = field(default_factory=dict)
    module: str = ""
    configs: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    decided: set[str] = field(default_factory=set)


def make_model_block(recipe: Path, script: str, options: Options, file: str) -> ModelBlock:
    """The model block for a call.

    Args:
        recipe: the recipe's directory, which has the decode configs.
        script: the task script.
        options: what it goes by.
        file: the config that gets the block, for the report.
    """
    block = ModelBlock(module=module_of(script, options))
    known = tables()["models"].get(block.module)
    arguments: list[str] = known["arguments"] if known else []
    if known:
        target = f"espnet2.bin.{block.module}.{known['class']}"
        block.lines["_target_"] = (target, f"DECIDE: {_why_class(script, options)}")
    else:
        block.lines["_target_"] = (MISSING, "DECIDE: the class of your model")
    task = TASKS.get(script, _UNKNOWN)
    add_weights(script, task.model, options, arguments, block, file)
    for key, value in task.fixed.items():
        block.lines[key] = (value, f"{script} always says so")
    for key, why in task.computed.items():
        block.lines[key] = (MISSING, f"DECIDE: what {script} makes it; {why}")
    _passed(passed(script, block.module), options, arguments, block, file)
    k2 = ("k2_config",) if block.module.endswith("_k2") else ()
    for name in (*task.configs, *k2):
        option = options.get(name)
        if option is not None and option.value:
            _decode_conf(recipe, option, arguments, block, file)
    for name in task.arguments:
        option = options.get(name)
        if option is not None and option.value:
            _decode_arguments(option, arguments, block, file)
    return block


def _decode_conf(
    recipe: Path, option: Option, arguments: list[str], block: ModelBlock, file: str
) -> None:
    name = (option.value or "").removeprefix("./")
    block.decided.add(option.name)
    settings, problems = read_decode_conf(recipe, name)
    block.findings += problems
    block.configs.append(name)
    if (recipe / name).is_file():
        went = f"its keys are under model: of {file}"
        finding = Finding(option.written, option.place, Fate.MAPPED, went, "", (file,))
    else:
        why, ask = "there is no such file", "what it said"
        finding = Finding(option.written, option.place, Fate.UNMAPPED, why, ask)
    block.findings.append(finding)
    _put(settings, arguments, block, file)


def _why_class(script: str, options: Options) -> str:
    if script == "spk.sh":
        return "spk.sh runs spk_embed_extract, which has no class for one item; this is its task's"
    if script == "s2t.sh" and options.is_true("s2t_ctc"):
        why = "s2t.sh runs s2t_inference_ctc, which is deprecated for this class"
        return f"{why}; with beam_size 1 it takes the best path, here best_path"
    return f"the class that {script} decodes with, or your own with these arguments"


def _passed(
    names: Mapping[str, str], options: Options, arguments: list[str], block: ModelBlock, file: str
) -> None:
    """Options that the script passes to the class as they are."""
    for option_name, argument in names.items():
        option = options.get(option_name)
        if option is None or option.value in ("", "none"):
            continue
        block.decided.add(option_name)
        if option.value is None:
            block.lines[argument] = (MISSING, f"DECIDE: {option.why} ({option.place})")
            finding = Finding(option.written, option.place, Fate.UNMAPPED, option.why, "", (file,))
            block.findings.append(finding)
            continue
        setting = DecodeSetting(argument, _value(option.value), option.place, option.written)
        _put([setting], arguments, block, file)


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _decode_arguments(option: Option, arguments: list[str], block: ModelBlock, file: str) -> None:
    """`--inference_args`, which win over the config."""
    block.decided.add(option.name)
    try:
        parts = words(option.value or "")
    except NotUnderstood as error:
        ask = f"its part of model: in {file}"
        finding = Finding(option.written, option.place, Fate.UNMAPPED, str(error), ask, (file,))
        block.findings.append(finding)
        return
    went = f"its options are under model: of {file}"
    block.findings.append(Finding(option.written, option.place, Fate.MAPPED, went, "", (file,)))
    settings = []
    while parts:
        name, equals, value = parts.pop(0).removeprefix("--").partition("=")
        if not equals:
            value = parts.pop(0) if parts else ""
        text = f"--{name} {value}  (of {option.written})"
        settings.append(DecodeSetting(name.replace("-", "_"), _value(value), option.place, text))
    _put(settings, arguments, block, file)


def _put(
    settings: Iterable[DecodeSetting], arguments: list[str], block: ModelBlock, file: str
) -> None:
    for one in settings:
        fate, went, ask = decoded(one, arguments, block.module)
        if fate is Fate.MAPPED:
            before = block.lines.get(one.name)
            if before is not None and before[0] not in (MISSING, one.value):
                went += f", instead of {before[0]} ({before[1]})"
            block.lines[one.name] = (one.value, str(one.place))
        files = (file,) if fate is Fate.MAPPED else ()
        block.findings.append(Finding(one.text, one.place, fate, went, ask, files))


def decoded(one: DecodeSetting, arguments: list[str], module: str) -> tuple[Fate, str, str]:
    """What becomes of a key: its fate, where it goes, and what a person must decide."""
    if one.name in _OF_THE_COMMAND:
        why = _OF_THE_COMMAND[one.name]
        if one.name != "batch_size" or one.value in (None, 0, 1):
            return Fate.NEEDLESS, why, ""
        return Fate.UNMAPPED, why, "whether your model takes batches"
    if one.name in arguments or not arguments:
        ask = "" if arguments else "whether your model takes it"
        return Fate.MAPPED, f"model.{one.name}: {one.value}", ask
    like = one.name.replace("-", "_")
    if like in arguments:
        why = f"ESPnet2 refuses this spelling; its argument is {like}"
        return Fate.UNMAPPED, why, f"whether model.{like} is meant"
    why = f"the class of espnet2.bin.{module} has no such argument"
    return Fate.UNMAPPED, why, "whether it matters; for ESPnet2 it was an option of the command"


def unused(recipe: Path, read: Iterable[str], module: str) -> list[Finding]:
    """Decode configs that no run script names."""
    known = tables()["models"].get(module)
    arguments: list[str] = known["arguments"] if known else []
    done: list[Finding] = []
    try:
        paths = sorted(p for p in recipe.glob("conf/**/*.yaml") if "decode" in p.name)
    except OSError:
        return []
    for path in paths:
        name = path.relative_to(recipe).as_posix()
        if name in read:
            continue
        settings, problems = read_decode_conf(recipe, name)
        done += problems
        why = "no run script names it; its keys would be under model:"
        done.append(Finding(path.name, Place(name), Fate.UNUSED, why))
        for one in settings:
            fate, went, _ = decoded(one, arguments, module)
            would = f"it would be {went}" if fate is Fate.MAPPED else went
            done.append(Finding(one.text, one.place, Fate.UNUSED, would))
    return done
