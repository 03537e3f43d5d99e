"""Going through a recipe's scripts as a run of the whole would, without running anything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from espnet3.migrate.findings import Place, problem
from espnet3.migrate.scripts.conditions import branches
from espnet3.migrate.scripts.met import Part, Seen, Walk
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
from espnet3.migrate.scripts.tokens import Inner, ShellError
from espnet3.migrate.text_files import read_text

_MOST = 20_000
_DEEPEST = 12
_SAME_FILE = 3
SETTINGS = re.compile(r"(\./)?(local/)?(path|cmd|db)\.sh")
"""They set variables, which count, and do nothing else."""
_SOURCES = (".", "source")
_SHELLS = ("bash", "sh")


def walk(recipe: Path, name: str) -> Walk:
    """Go through a script of a recipe and those of the recipe that it calls.

    Args:
        recipe: the recipe's directory.
        name: the script, relative to it.
    """
    walker = _Walker(recipe)
    walker.script(name, Scope(), [], Place(name))
    walker.read_uncalled()
    return walker.done


class _Walker:
    def __init__(self, recipe: Path) -> None:
        self.recipe = recipe
        self.done = Walk()
        self.parsed: dict[str, list[Node] | None] = {}
        self.stack: list[str] = []
        self.functions: dict[str, tuple[str, Function]] = {}
        self.defined: dict[tuple[str, int], Function] = {}
        self.called: set[tuple[str, int]] = set()
        self.loops: list[str] = []
        self.taken = True
        self.n_met = 0

    def script(self, name: str, scope: Scope, arguments: Sequence[str | None], at: Place) -> None:
        """Go through a file with a scope of its own."""
        scope.set_arguments(arguments)
        if name in self.stack:
            self._problem(at, name, f"it calls itself, by {' and '.join(self.stack)}")
            return
        nodes = self._parse(name)
        if nodes is not None and len(self.stack) < _DEEPEST:
            functions, self.functions = self.functions, {}
            self.stack.append(name)
            self._nodes(nodes, scope)
            self.stack.pop()
            self.functions = functions

    def read_uncalled(self) -> None:
        """Read functions that nothing was seen to call as well, with nothing known."""
        for (file, line), function in list(self.defined.items()):
            if (file, line) not in self.called:
                self.stack = [file]
                self._nodes(function.body, Scope())

    def _parse(self, name: str) -> list[Node] | None:
        if name not in self.parsed:
            self.parsed[name] = None
            text, findings = read_text(self.recipe, name)
            self.done.findings += findings
            if text is None:
                if not findings:
                    self.done.missing.add(name)
                return None
            self.done.files.append(name)
            try:
                self.parsed[name] = parse_script(text)
            except ShellError as error:
                self._problem(Place(name, error.line), name, f"not read as shell: {error}")
        return self.parsed[name]

    def _problem(self, place: Place, what: str, why: str) -> None:
        self.done.findings.append(problem(place, what, why))

    def _nodes(self, nodes: Iterable[Node], scope: Scope) -> None:
        for node in nodes:
            self.n_met += 1
            if self.n_met > _MOST:
                if self.n_met == _MOST + 1:
                    self._problem(self._place(node.line), node.text, "more than can be followed")
                return
            if node.conditional:
                before = scope.copy()
                self._node(node, scope)
                scope.either([before])
            else:
                self._node(node, scope)

    def _node(self, node: Node, scope: Scope) -> None:
        if isinstance(node, Command):
            self._command(node, scope)
        elif isinstance(node, Pipeline):
            self._pipeline(node, scope)
        elif isinstance(node, Loop):
            self._loop(node, scope)
        elif isinstance(node, If):
            self._if(node, scope)
        elif isinstance(node, Case):
            arms = []
            for _, body in node.arms:
                arms.append(scope.copy())
                self._nodes(body, arms[-1])
            scope.either(arms)
        elif isinstance(node, Group):
            self._nodes(node.body, scope.copy() if node.alone else scope)
        elif isinstance(node, Function):
            file = self.stack[-1]
            self.functions[node.name] = (file, node)
            self.defined[file, node.line] = node

    def _if(self, node: If, scope: Scope) -> None:
        for _, body, branch, met in branches(node, scope, lambda one: self._nodes(one, scope)):
            taken, self.taken = self.taken, self.taken and met is not False
            self._nodes(body, branch)
            self.taken = taken

    def _loop(self, node: Loop, scope: Scope) -> None:
        self._inner(node.inner, scope)
        parts = [p for one in node.condition for p in self._parts(one, scope)]
        self._meet(Seen(self._place(node.line), node.text, tuple(parts), is_loop=True))
        self.loops.append(node.text)
        values = scope.values(node.values) if node.values is not None else None
        if values is None:
            scope.forget({*assigned_in([node]), node.variable})
            self._nodes(node.body, scope)
            scope.forget(assigned_in([node]))
        else:
            for value in values:
                scope.variables[node.variable] = value
                self._nodes(node.body, scope)
        self.loops.pop()

    def _pipeline(self, node: Pipeline, scope: Scope) -> None:
        commands = [part for part in node.parts if isinstance(part, Command)]
        if commands:
            parts = tuple(p for one in commands for p in self._parts(one, scope))
            self._meet(Seen(self._place(node.line), _head(node), parts))
        for part in node.parts:
            inside = scope.copy()
            if isinstance(part, Command):
                self._inner(part.inner, inside)
                one, place = self._part(part, inside), self._place(part.line)
                if not self._stays(one, inside):
                    self._call(one, place)
            else:
                self._node(part, inside)

    def _command(self, node: Command, scope: Scope) -> None:
        self._inner(node.inner, scope)
        place = self._place(node.line)
        part = self._part(node, scope)
        if not self._stays(part, scope) and (part.written or node.redirects):
            self._meet(Seen(place, node.text, (part,)))
            self._call(part, place)
        scope.command(node.words, part.words)

    def _stays(self, part: Part, scope: Scope) -> bool:
        """Go into a function or a sourced file; whether the command is one."""
        words = part.words
        if not words or words[0] is None:
            return False
        name = words[0]
        if name in _SOURCES and len(words) > 1:
            return self._source(words[1], scope)
        if name not in self.functions:
            return False
        file, function = self.functions[name]
        self.called.add((file, function.line))
        if self.stack.count(file) <= _SAME_FILE and len(self.stack) < _DEEPEST:
            inside = scope.copy()
            inside.set_arguments(words[1:])
            self.stack.append(file)
            self._nodes(function.body, inside)
            self.stack.pop()
            scope.forget(assigned_in(function.body))
        return True

    def _call(self, part: Part, place: Place) -> None:
        """Go into a script of the recipe. Others belong to the task or to other tools."""
        words = part.words[1:] if part.words and part.words[0] in _SHELLS else part.words
        script = ((words[0] if words else "") or "").removeprefix("./")
        if script.startswith("local/") and script.endswith(".sh"):
            self.script(script, Scope(), words[1:], place)

    def _source(self, written: str | None, scope: Scope) -> bool:
        name = (written or "").removeprefix("./")
        if name.endswith("parse_options.sh"):
            scope.parse_options()
            return True
        if not name.endswith(".sh") or name.startswith(("/", "..")) or name in self.stack:
            return False
        n_seen, n_findings = len(self.done.seen), len(self.done.findings)
        before = set(self.done.missing)
        nodes = self._parse(name)
        if nodes is not None and len(self.stack) < _DEEPEST:
            self.stack.append(name)
            self._nodes(nodes, scope)
            self.stack.pop()
        if name.endswith("db.sh"):
            scope.fill("downloads")
        if SETTINGS.fullmatch(name):
            del self.done.seen[n_seen:], self.done.findings[n_findings:]
            self.done.missing = before
        return True

    def _inner(self, inner: Sequence[Inner], scope: Scope) -> None:
        for one in inner:
            try:
                nodes = parse_script(one.text, one.line)
            except ShellError as error:
                self._problem(self._place(error.line), one.text, f"not read as shell: {error}")
            else:
                self._nodes(nodes, scope.copy())

    def _parts(self, node: Node, scope: Scope) -> list[Part]:
        if isinstance(node, Command):
            return [self._part(node, scope)]
        if isinstance(node, Pipeline):
            return [part for one in node.parts for part in self._parts(one, scope)]
        return []

    def _part(self, node: Command, scope: Scope) -> Part:
        return Part(*scope.words_of(node.words), node.redirects, scope.why)

    def _meet(self, seen: Seen) -> None:
        self.done.seen.append(
            Seen(seen.place, seen.text, seen.parts, tuple(self.loops), seen.is_loop, self.taken)
        )

    def _place(self, line: int) -> Place:
        return Place(self.stack[-1] if self.stack else "", line)


def _head(node: Pipeline) -> str:
    """A pipeline without the bodies of the loops in it."""
    return " | ".join(part.text for part in node.parts)
