"""A run script: its variables, and what it calls the task script with. It is not run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from espnet3.migrate.findings import Finding, Place, problem
from espnet3.migrate.scripts.conditions import branches
from espnet3.migrate.scripts.parser import parse_script
from espnet3.migrate.scripts.scope import Scope, assigned_in
from espnet3.migrate.scripts.syntax import (
    Case,
    Command,
    Function,
    Group,
    If,
    Loop,
    Node,
    Pipeline,
)
from espnet3.migrate.scripts.tokens import ShellError

_ASSIGNMENT = re.compile(r"(?:export\s+)?(\w+)\+?=(.*)", re.DOTALL)
_TASK = re.compile(r"\./(?!(?:path|cmd|db|setup|run\w*)\.sh)[\w.-]+\.sh")
_NAMES = re.compile(r"\$\{?(\w+)")
_NO_SETTING = ("set", "echo", "printf", "exit", "log", "cd", "wait", "shopt", "true", ":", "export")
_SOURCES = (".", "source")
_MOST_VALUES = 100
_MOST_TURNS = 2000


@dataclass(frozen=True)
class Word:
    """A word of a call.

    Attributes:
        written: As it stands there.
        value: What it says; None if only running the script would tell.
        why: Why that is so.
        place: Where it stands; continued lines have their own.
    """

    written: str
    value: str | None
    why: str
    place: Place


@dataclass(frozen=True)
class Setting:
    """An assignment.

    Attributes:
        name: The variable.
        text: As it is written.
        value: What it gets; None if only running the script would tell.
        place: Where.
        under: The conditions and loops that it stands in.
        taken: Whether the script comes there, as far as that is known.
    """

    name: str
    text: str
    value: str | None
    place: Place
    under: tuple[str, ...]
    taken: bool


@dataclass(frozen=True)
class Call:
    """A call of a task script, such as ``./asr.sh``."""

    script: str
    place: Place
    words: tuple[Word, ...]
    under: tuple[str, ...]
    taken: bool
    names: frozenset[str]
    """The variables that its words name."""


@dataclass
class RunScript:
    """What stands in a run script.

    Attributes:
        settings: Assignments, in order.
        calls: Calls of task scripts.
        others: Other commands, as text, with the conditions and loops that they stand in.
        findings: What could not be read.
    """

    settings: list[Setting] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    others: list[tuple[str, Place, tuple[str, ...]]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def parse_run_script(text: str, file: str) -> RunScript:
    """Read a run script.

    Args:
        text: what stands in it.
        file: its name, for the report.
    """
    try:
        nodes = parse_script(text)
    except ShellError as error:
        why = f"not read as shell: {error}"
        return RunScript(findings=[problem(Place(file, error.line), file, why)])
    reader = _Reader(file, text.split("\n"))
    scope = Scope()
    reader.read(nodes, scope)
    return reader.done


class _Reader:
    def __init__(self, file: str, lines: list[str]) -> None:
        self.file = file
        self.lines = lines
        self.done = RunScript()
        self.under: list[str] = []
        self.taken = True
        self.turns = 0
        self.seen: set[tuple[int, str]] = set()

    def read(self, nodes: Iterable[Node], scope: Scope) -> None:
        for node in nodes:
            if node.conditional:
                before = scope.copy()
                self._inside(f"{node.text} (behind && or ||)", [node], scope, None)
                scope.either([before])
            else:
                self._node(node, scope)

    def _node(self, node: Node, scope: Scope) -> None:
        if isinstance(node, Command):
            self._command(node, scope)
        elif isinstance(node, Pipeline):
            self._other(node)
        elif isinstance(node, Loop):
            self._loop(node, scope)
        elif isinstance(node, If):
            self._if(node, scope)
        elif isinstance(node, Case):
            arms = []
            for pattern, body in node.arms:
                arms.append(scope.copy())
                self._inside(f"case {node.word} in {pattern})", body, arms[-1], None)
            scope.either(arms)
        elif isinstance(node, Group):
            self.read(node.body, scope.copy() if node.alone else scope)
        elif isinstance(node, Function):
            self._inside(f"function {node.name}", node.body, Scope(), None)
            scope.forget(assigned_in(node.body))

    def _inside(self, head: str, nodes: list[Node], scope: Scope, met: bool | None) -> None:
        taken, self.taken = self.taken, self.taken and met is not False
        self.under.append(head)
        for node in nodes:
            self._node(node, scope)
        self.under.pop()
        self.taken = taken

    def _if(self, node: If, scope: Scope) -> None:
        head = ""
        for condition, body, branch, met in branches(node, scope):
            if condition:
                head = "if " + " ".join(one.text for one in condition)
            else:
                head = f"else of `{head}`"
            self._inside(head, body, branch, met)

    def _loop(self, node: Loop, scope: Scope) -> None:
        values = scope.values(node.values) if node.values is not None else None
        uncertain = values is None or len(values) > _MOST_VALUES or self.turns > _MOST_TURNS
        if values is None or uncertain or _has_call(node.body):
            # What differs from turn to turn is not certain.
            scope.forget({*assigned_in([node]), node.variable})
            self._inside(node.text, node.body, scope, None)
            scope.forget({*assigned_in([node]), node.variable})
            return
        if not values:
            self._inside(node.text, node.body, scope.copy(), False)
        for value in values:
            self.turns += 1
            scope.variables[node.variable] = value
            self._inside(node.text, node.body, scope, None)

    def _command(self, node: Command, scope: Scope) -> None:
        rest, words = scope.words_of(node.words)
        first = words[0] if words else None
        script = words[1] if first in ("bash", "sh") and len(words) > 1 else first
        if script and _TASK.fullmatch(script):
            self._call(node, script.removeprefix("./"), rest, scope)
        elif rest and first not in ("export", "local", "declare", "readonly", *_NO_SETTING):
            if first == "[" or rest[0].startswith(("[[", "((")):
                pass  # of a condition
            elif first in _SOURCES and len(words) > 1:
                self._source(node, words[1] or "", scope)
            else:
                self._other(node)
        scope.command(node.words, words)
        self._assignments(node, rest, scope)

    def _source(self, node: Node, name: str, scope: Scope) -> None:
        if name.endswith("parse_options.sh"):
            scope.parse_options()
        elif not name.endswith(("path.sh", "cmd.sh")):
            self._other(node)

    def _other(self, node: Node) -> None:
        key = (node.line, node.text)
        if key not in self.seen and self.taken:
            self.seen.add(key)
            place = Place(self.file, node.line)
            self.done.others.append((node.text, place, tuple(self.under)))

    def _assignments(self, node: Command, rest: Sequence[str], scope: Scope) -> None:
        if rest and rest[0] not in ("export", "local", "declare", "readonly"):
            return
        for word in node.words:
            match = _ASSIGNMENT.fullmatch(word)
            if match is None:
                continue
            held = scope.variables.get(match[1])
            value = " ".join(held) if isinstance(held, list) else held
            place = Place(self.file, self._line(word, node.line))
            setting = Setting(match[1], word, value, place, tuple(self.under), self.taken)
            if setting not in self.done.settings:
                self.done.settings.append(setting)

    def _call(self, node: Command, script: str, rest: Sequence[str], scope: Scope) -> None:
        written = rest[1:] if rest[0] not in ("bash", "sh") else rest[2:]
        words: list[Word] = []
        line = node.line
        for one in written:
            line = self._line(one, line)
            place = Place(self.file, line)
            _, values = scope.words_of([one]) if "=" not in one else scope.words_of(["x", one])
            if "=" in one:
                values = values[1:]
            why = self._why(one, scope.why) if None in values else ""
            if one.startswith('"') and "[*]}" in one and None not in values:
                values = (" ".join(value or "" for value in values),)
            words += [Word(one, value, why, place) for value in values]
        names = frozenset(_NAMES.findall(" ".join(written)))
        call = Call(
            script, Place(self.file, node.line), tuple(words), tuple(self.under), self.taken, names
        )
        self.done.calls.append(call)

    def _line(self, word: str, first: int) -> int:
        """The line of a word that stands at `first` or below."""
        begin = word.split("\n")[0]
        for i in range(first, min(first + 200, len(self.lines)) + 1):
            if begin in self.lines[i - 1]:
                return i
        return first

    def _why(self, word: str, why: str) -> str:
        places = [
            f"{one.place}" + (f" (under `{one.under[-1]}`)" if one.under else "")
            for name in dict.fromkeys(_NAMES.findall(word))
            for one in self.done.settings
            if one.name == name
        ]
        return f"{why}; see {', '.join(places)}" if places else why


def _has_call(nodes: Iterable[Node]) -> bool:
    for node in nodes:
        if isinstance(node, Command) and any(_TASK.fullmatch(word) for word in node.words[:2]):
            return True
        if isinstance(node, If) and any(_has_call(body) for _, body in node.branches):
            return True
        if isinstance(node, (Loop, Group)) and _has_call(node.body):
            return True
    return False
