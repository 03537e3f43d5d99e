"""The options of a call as ``utils/parse_options.sh`` reads them, and the script's defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from espnet3.migrate.findings import Fate, Finding, Place, problem
from espnet3.migrate.run.script import Call, Word
from espnet3.migrate.scripts.parser import parse_script
from espnet3.migrate.scripts.scope import Scope
from espnet3.migrate.scripts.syntax import Command
from espnet3.migrate.scripts.tokens import ShellError
from espnet3.migrate.text_files import read_text

_NAME = re.compile(r"\w+=")


@dataclass(frozen=True)
class Option:
    """A setting of the task script.

    Attributes:
        name: The variable that it sets there.
        written: The option and its value as they stand in the run script; of a default, as there.
        value: What it is; None if only running the script would tell.
        why: Why that is so.
        place: Where it is set.
        is_default: Whether the task script itself says it.
    """

    name: str
    written: str
    value: str | None
    why: str
    place: Place
    is_default: bool = False


@dataclass
class Options:
    """What the task script goes by.

    Attributes:
        given: What the run script says, in order.
        defaults: What the task script says, by name.
        source: Where the defaults come from.
        findings: What is no option.
    """

    given: list[Option] = field(default_factory=list)
    defaults: dict[str, Option] = field(default_factory=dict)
    source: str = ""
    findings: list[Finding] = field(default_factory=list)

    def get(self, name: str) -> Option | None:
        """The last that is said of a name."""
        for option in reversed(self.given):
            if option.name == name:
                return option
        return self.defaults.get(name)

    def value(self, name: str) -> str:
        """Its text; "" if it is not known or not there."""
        option = self.get(name)
        return "" if option is None or option.value is None else option.value.strip()

    def is_true(self, name: str) -> bool:
        """Whether it is certainly ``true``."""
        return self.value(name) == "true"


@cache
def tables() -> Mapping[str, Any]:
    """What is known of the release that the tables were made from.

    Returns:
        ``version``; ``scripts``: per task script, its settings and their defaults; ``models``:
        per module of ``espnet2.bin``, its class and the arguments of that.
    """
    text = resources.files("espnet3.migrate.run").joinpath("espnet2.json").read_text("utf-8")
    done: Mapping[str, Any] = json.loads(text)
    return done


def read_options(recipe: Path, call: Call) -> Options:
    """The options of a call, and the defaults of the script that it calls.

    Args:
        recipe: the recipe's directory, which mostly has the script.
        call: the call.
    """
    done = Options()
    text, done.findings = read_text(recipe, call.script)
    if text is not None:
        try:
            done.defaults = defaults_of(text, call.script)
            done.source = call.script
        except ShellError as error:
            why = f"not read as shell: {error}"
            done.findings.append(problem(Place(call.script, error.line), call.script, why))
    if not done.defaults and call.script in tables()["scripts"]:
        done.source = f"{call.script} of ESPnet {tables()['version']}"
        for name, value in tables()["scripts"][call.script].items():
            place = Place(done.source)
            done.defaults[name] = Option(name, f"{name}={value}", value, "", place, True)
    if not done.defaults and not done.findings:
        why = "there is no such script, and its defaults are not known here"
        done.findings.append(Finding(f"./{call.script}", call.place, Fate.UNMAPPED, why))
    _given(call, done)
    return done


def defaults_of(text: str, file: str) -> dict[str, Option]:
    """What a task script sets before it reads its options.

    Raises:
        ShellError: if this part cannot be read.
    """
    head = re.split(r"^(?:help_message=|\. +\S*parse_options\.sh)", text, maxsplit=1, flags=re.M)
    done: dict[str, Option] = {}
    scope = Scope()
    for node in parse_script(head[0]):
        if not isinstance(node, Command) or not node.words or not _NAME.match(node.words[0]):
            continue
        scope.command(node.words, ())
        for word in node.words:
            name, _, right = word.partition("=")
            held = scope.variables.get(name)
            value = " ".join(held) if isinstance(held, list) else held
            why = "" if value is not None else "only running the script would tell"
            place = Place(file, node.line)
            done[name] = Option(name, f"{name}={right}", value, why, place, is_default=True)
    return done


def _given(call: Call, done: Options) -> None:
    words = list(call.words)
    while words:
        word = words.pop(0)
        if word.written.strip('"') in ("$@", "${@}"):
            continue
        if word.value is None:
            ask = "which options it stands for"
            done.findings.append(Finding(word.written, word.place, Fate.UNMAPPED, word.why, ask))
        elif word.value.startswith("--"):
            following = words.pop(0) if words else None
            _option(word, following, done)
        elif word.value.strip():
            why = f"it belongs to no option; {call.script} stops there"
            done.findings.append(Finding(word.written, word.place, Fate.UNMAPPED, why))


def _option(word: Word, following: Word | None, done: Options) -> None:
    name = (word.value or "")[2:].replace("-", "_")
    if following is None or "=" in name:
        why = "it has no value" if following is None else "options are written `--name value`"
        finding = Finding(word.written, word.place, Fate.UNMAPPED, f"{why}; the script stops there")
        done.findings.append(finding)
        return
    written = word.written
    if following.written != word.written:
        written = f"{word.written} {following.written}"
    elif following.value is not None:
        written = f"{word.value} {following.value}  (of {word.written})"
    done.given.append(Option(name, written, following.value, following.why, word.place))
