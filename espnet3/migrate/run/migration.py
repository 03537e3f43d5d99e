"""All run scripts of a recipe, as configs for inference and scoring."""

from __future__ import annotations

import re
from pathlib import Path

from espnet3.migrate.findings import Fate, Finding, Place
from espnet3.migrate.run.call import CallMigration, Runs
from espnet3.migrate.run.model_block import unused
from espnet3.migrate.run.options import Option, read_options
from espnet3.migrate.run.script import RunScript, Setting, parse_run_script
from espnet3.migrate.run.workers import Blocks, whole
from espnet3.migrate.text_files import read_text

_NEVER = "every branch that it stands in needs something else"


def run_scripts(recipe: Path) -> list[str]:
    """The run scripts of a recipe, `run.sh` first."""
    try:
        names = sorted(path.name for path in recipe.glob("run*.sh"))
    except OSError:
        return []
    return sorted(names, key=lambda name: name != "run.sh")


def pieces_of(recipe: Path) -> dict[str, Option]:
    """Per command the option that says how many jobs it is called for, in the first run script."""
    for name in run_scripts(recipe):
        text, _ = read_text(recipe, name)
        calls = parse_run_script(text, name).calls if text is not None else []
        if not calls:
            continue
        options = read_options(recipe, calls[0])
        nj, inference_nj = options.get("nj"), options.get("inference_nj")
        found = {"train_cmd": nj, "decode_cmd": inference_nj, "cuda_cmd": inference_nj}
        return {role: option for role, option in found.items() if option and whole(option)}
    return {}


def migrate_runs(recipe: Path, blocks: Blocks) -> Runs:
    """Read the run scripts of a recipe.

    Args:
        recipe: its directory.
        blocks: the files of parallel blocks.
    """
    done = Runs()
    configs: list[str] = []
    module = ""
    for name in run_scripts(recipe):
        text, findings = read_text(recipe, name)
        done.findings += findings
        if text is None:
            continue
        done.read.append(name)
        script = parse_run_script(text, name)
        done.findings += script.findings
        _others(script, done)
        _settings(script, done)
        for number, call in enumerate(script.calls):
            if not call.taken:
                ask = "whether you ran it"
                done.findings.append(
                    Finding(f"./{call.script}", call.place, Fate.UNUSED, _NEVER, ask)
                )
            one = CallMigration(recipe, call, name, number, blocks)
            one.write(done)
            configs += one.model.configs
            module = module or one.model.module
        if not script.calls and not script.findings:
            why = "it calls no task script such as ./asr.sh"
            ask = "write conf/inference.yaml yourself"
            done.findings.append(Finding(name, Place(name), Fate.UNMAPPED, why, ask))
    done.findings += unused(recipe, configs, module)
    return done


def _others(script: RunScript, done: Runs) -> None:
    for text, place, under in script.others:
        why = "a command that is not run here" + (f" (under `{under[-1]}`)" if under else "")
        ask = "whether it belongs into `build` of dataset/builder.py, or beside run.py"
        done.findings.append(Finding(text, place, Fate.UNMAPPED, why, ask))


def _settings(script: RunScript, done: Runs) -> None:
    """Variables: those that calls name are told with the options that they are in."""
    named: set[str] = set().union(*(call.names for call in script.calls))
    more = True
    while more:  # what goes into a variable that a call names takes part as well
        before = len(named)
        for setting in script.settings:
            if setting.name in named:
                named |= set(re.findall(r"\$\{?(\w+)", setting.text))
        more = len(named) > before
    done.findings += [_setting(one, one.name in named) for one in script.settings]


def _setting(one: Setting, named: bool) -> Finding:
    under = f"; it stands under `{one.under[-1]}`" if one.under else ""
    if not one.taken:
        return Finding(one.text, one.place, Fate.UNUSED, f"the script does not come there{under}")
    if not named:
        ask = "" if one.name.isupper() else "whether anything needs it"
        why = f"no call of a task script names it{under}"
        return Finding(one.text, one.place, Fate.UNUSED, why, ask)
    if one.value is None:
        why = f"only running the script would tell its value{under}"
        return Finding(one.text, one.place, Fate.UNMAPPED, why)
    return Finding(one.text, one.place, Fate.MAPPED, f"in the options that name it{under}")
