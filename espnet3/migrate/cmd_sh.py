"""``cmd.sh``: which backends a recipe can choose, and with which commands. It is not run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from espnet3.migrate.findings import Fate, Finding, Place, problem
from espnet3.migrate.kaldi_command import Command, parse_command
from espnet3.migrate.shell_text import NotUnderstood, assigned_value, expanded, statements, words

COMMANDS = ("train_cmd", "cuda_cmd", "decode_cmd")
"""The variables that ESPnet2's task scripts start jobs with."""

_ASSIGNMENT = re.compile(r"(?:export\s+)?(\w+)=(.*)", re.DOTALL)
_TEST = re.compile(r"(?:\[\[?|test)\s+(\S+)\s+==?\s+(\S+?)(?:\s+\]\]?)?")
# It becomes part of a file's name.
_BACKEND = re.compile(r"\w[\w.-]*")
_VARIABLE_NAME = re.compile(r"\"?\$\{?(\w+)\}?\"?")
# They do something, but set nothing.
_NO_SETTING = re.compile(
    r"(echo|printf|return|exit|set|shopt|true)\b.*|:|export(\s+\w+)+", re.DOTALL
)
_NOTHING = Place("")


@dataclass
class CmdSh:
    """What stands in a ``cmd.sh``.

    Attributes:
        chosen: The value of ``cmd_backend``; "" if there is none.
        chosen_at: Where that stands.
        backends: Per value that ``cmd_backend`` may have, its commands. Commands outside any
            branch are those of the backend "".
        findings: What could not be read.
    """

    chosen: str = ""
    chosen_at: Place = _NOTHING
    backends: dict[str, dict[str, Command]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


@dataclass
class _Branch:
    """Where the reader is: in a branch for these backends, or in one that nobody knows."""

    names: list[str]
    why_not: str = ""


def parse_cmd_sh(text: str, file: str = "cmd.sh") -> CmdSh:
    """Read a ``cmd.sh``."""
    return _Reader(file).read(text)


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.done = CmdSh()
        self.variables: dict[str, str] = {}
        self.branches: list[_Branch] = []
        self.seen: dict[tuple[str, str], Command] = {}

    def read(self, text: str) -> CmdSh:
        for number, statement in statements(text):
            place = Place(self.file, number)
            for one in _split(statement):
                if not self._branching(one):
                    self._setting(one, place)
        if self.branches:
            why = "its end (`fi`, `esac`, `done` or `}`) is missing"
            self.done.findings.append(problem(Place(self.file), self.file, why))
        return self.done

    def _branching(self, statement: str) -> bool:
        keyword, _, rest = statement.partition(" ")
        if keyword in ("if", "elif"):
            if keyword == "elif" and self.branches:
                self.branches.pop()
            self.branches.append(_condition(rest.strip()))
        elif keyword == "else":
            if self.branches:
                self.branches[-1] = _Branch([], "it stands in the `else` branch")
        elif keyword in ("case", "for", "while", "until") or statement.endswith("{"):
            self.branches.append(_Branch([], f"it stands in `{statement}`, which is not followed"))
        elif keyword in ("fi", "esac", "done", "}"):
            if self.branches:
                self.branches.pop()
        else:
            return keyword in ("then", "do")
        return True

    def _setting(self, statement: str, place: Place) -> None:
        match = _ASSIGNMENT.fullmatch(statement)
        if match is None:
            if not _NO_SETTING.fullmatch(statement):
                self.done.findings.append(
                    problem(place, statement, "a line of shell that is not run here")
                )
            return
        name, right = match[1], match[2].strip()
        why_not = next((branch.why_not for branch in self.branches if branch.why_not), "")
        try:
            if why_not:
                raise NotUnderstood(why_not)
            value = assigned_value(right, self.variables)
            if name in COMMANDS:
                self._command(name, parse_command(value, place))
            elif name == "cmd_backend":
                self.done.chosen, self.done.chosen_at = value, place
            elif name.endswith("cmd"):
                self.done.findings.append(_other(statement, place))
        except NotUnderstood as error:
            self.done.findings.append(Finding(statement, place, Fate.UNMAPPED, str(error)))
            self.variables.pop(name, None)
        else:
            self.variables[name] = value

    def _command(self, name: str, command: Command) -> None:
        for backend in self._backends():
            before = self.seen.get((backend, name))
            if before is not None:
                self.done.findings.append(
                    Finding(
                        f"{name} of {before.program}",
                        before.place,
                        Fate.NEEDLESS,
                        f"{command.place} sets {name} again",
                    )
                )
            self.seen[backend, name] = command
            self.done.backends.setdefault(backend, {})[name] = command

    def _backends(self) -> list[str]:
        """Those of the innermost branch; nested ones must all hold, but nobody nests them."""
        return self.branches[-1].names if self.branches else [""]


def _condition(text: str) -> _Branch:
    names = []
    for part in re.split(r"\s*\|\|\s*", text):
        match = _TEST.fullmatch(part)
        variable = _VARIABLE_NAME.fullmatch(match[1]) if match else None
        if match is None or variable is None or variable[1] != "cmd_backend":
            return _Branch([], f"whether `{text}` holds is known only when it is run")
        try:
            (name,) = words(expanded(match[2], {}))
        except NotUnderstood as error:
            return _Branch([], f"its branch `{text}` cannot be read: {error}")
        except ValueError:
            return _Branch([], f"its branch `{text}` names no backend")
        if not _BACKEND.fullmatch(name):
            return _Branch([], f"its branch `{text}` names no backend")
        names.append(name)
    return _Branch(names)


def _other(statement: str, place: Place) -> Finding:
    why = f"ESPnet2's task scripts use only {', '.join(COMMANDS)}"
    return Finding(statement, place, Fate.UNMAPPED, why, "which of your scripts use it, and how")


def _split(statement: str) -> list[str]:
    """Statements of one line: split at `;` outside quotes, and behind `then`, `else` and `do`."""
    parts = [""]
    quote = ""
    for c in statement:
        if c in "'\"" and (not quote or quote == c):
            quote = "" if quote else c
        if c == ";" and not quote:
            parts.append("")
        else:
            parts[-1] += c
    alone: list[str] = []
    for part in map(str.strip, parts):
        keyword, _, rest = part.partition(" ")
        alone += [keyword, rest.strip()] if keyword in ("then", "else", "do") else [part]
    return [part for part in alone if part]
