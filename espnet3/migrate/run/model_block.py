"""The ``model:`` block of an inference config: what ESPnet2's class of that task would get."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from espnet3.migrate.findings import Fate, Finding, Place
from espnet3.migrate.run.decode_conf import DecodeSetting, read_decode_conf
from espnet3.migrate.run.options import Option, Options, tables
from espnet3.migrate.run.tasks import TASKS, module_of
from espnet3.migrate.shell_text import NotUnderstood, words

_OF_THE_COMMAND = {
    "batch_size": "here `batch_size` gives the model lists of items; ESPnet2's classes take one",
    "num_workers": "items are read by the workers themselves",
    "log_level": "logging is a matter of the program",
    "ngpu": "the device comes from the parallel block",
}
_CONFIG_OPTIONS = ("inference_config", "decode_config", "inference_asr_config")


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


MISSING = "???"


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
        why = f"the class that {script} decodes with, or your own with these arguments"
        block.lines["_target_"] = (target, f"DECIDE: {why}")
    else:
        block.lines["_target_"] = (MISSING, "DECIDE: the class of your model")
    _weights(script, options, arguments, block, file)
    for name in _CONFIG_OPTIONS:
        option = options.get(name)
        if option is not None and option.value:
            _decode_conf(recipe, option, arguments, block, file)
    _decode_arguments(options, arguments, block, file)
    return block


def _weights(
    script: str, options: Options, arguments: list[str], block: ModelBlock, file: str
) -> None:
    """The files that training makes, whose paths the task script puts together."""
    tag = options.get("download_model")
    wanted = TASKS[script].model if script in TASKS else ""
    for name in arguments:
        if not re.search(r"train_config$|model_file$|lm_file$", name) or name.startswith("src_"):
            continue
        beside = name.startswith("lm_") and "lm_train_config" in arguments[2:]
        if beside and not options.is_true("use_lm"):
            continue
        why = f"DECIDE: the path; {script} makes it of its experiment's directory"
        option = options.get("inference_lm" if name == "lm_file" else wanted)
        if not name.endswith("train_config") and option is not None and option.value:
            why += f" and {option.value} ({option.place})"
            block.decided.add(option.name)
            went = f"model.{name}"
            if not option.is_default:
                ask = f"the path of it, in {file}"
                finding = Finding(option.written, option.place, Fate.MAPPED, went, ask, (file,))
                block.findings.append(finding)
        block.lines[name] = (MISSING, why)
    if tag is not None and tag.value:
        block.decided.add(tag.name)
        why = "a model of the zoo is downloaded by espnet_model_zoo, by hand or in your own class"
        ask = f"the paths of {tag.value}, under model: of {file}"
        block.findings.append(Finding(tag.written, tag.place, Fate.UNMAPPED, why, ask, (file,)))
    use_lm = options.get("use_lm")
    if use_lm is not None and use_lm.value is not None and not use_lm.is_default:
        block.decided.add("use_lm")
        went = "model.lm_file is there" if options.is_true("use_lm") else "no model.lm_file"
        block.findings.append(Finding(use_lm.written, use_lm.place, Fate.MAPPED, went, "", (file,)))


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


def _decode_arguments(options: Options, arguments: list[str], block: ModelBlock, file: str) -> None:
    """`--inference_args`, which win over the config."""
    option = options.get("inference_args")
    if option is None or not option.value:
        return
    block.decided.add(option.name)
    try:
        parts = words(option.value)
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
        try:
            held = yaml.safe_load(value)
        except yaml.YAMLError:
            held = value
        text = f"--{name} {value}  (of {option.written})"
        settings.append(DecodeSetting(name.replace("-", "_"), held, option.place, text))
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
