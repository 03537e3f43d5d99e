"""What variables hold at one place of a script, as far as that is certain."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from espnet3.migrate.scripts.syntax import Case, Command, Function, Group, If, Loop, Node, Pipeline
from espnet3.migrate.scripts.values import Value, array_of, expand, text_of
from espnet3.migrate.shell_text import NotUnderstood

_ASSIGNMENT = re.compile(r"(\w+)(\+?)=(.*)", re.DOTALL)
_ELEMENT = re.compile(r"\w+\[[^\]]*\]\+?=.*", re.DOTALL)
_DECLARES = ("local", "export", "declare", "readonly", "typeset")
_READS = ("read", "mapfile", "readarray", "getopts", "unset", "let", "printf", "eval")


class Scope:
    """Variables and arguments; a name that is not in `variables` is not known.

    Attributes:
        variables: Their values; arguments are those named by digits, ``#`` and ``@``.
        why: Why the last words that were asked for are not all certain.
    """

    def __init__(self) -> None:
        self.variables: dict[str, Value] = {"PWD": "."}
        self.why = ""
        self._arguments: list[str | None] | None = None

    def copy(self) -> Scope:
        """One that may change by itself."""
        done = Scope()
        done.variables = dict(self.variables)
        done._arguments = None if self._arguments is None else list(self._arguments)
        return done

    def either(self, others: Sequence[Scope], keep_own: bool = True) -> None:
        """Keep what is the same in all branches (and here, if none of them need be taken)."""
        scopes = [*([self] if keep_own or not others else []), *others]
        first = scopes[0]
        self.variables = {
            name: value
            for name, value in first.variables.items()
            if all(scope.variables.get(name) == value for scope in scopes[1:])
        }
        same = all(scope._arguments == first._arguments for scope in scopes[1:])
        self._arguments = first._arguments if same else None

    def forget(self, names: Iterable[str]) -> None:
        """Hold these for not certain."""
        for name in names:
            self.variables.pop(name, None)

    def fill(self, value: str) -> None:
        """Let all empty variables that ``db.sh`` leaves to the user hold a value."""
        for name, old in self.variables.items():
            if name.isupper() and old == "":
                self.variables[name] = value

    def set_arguments(self, arguments: Sequence[str | None] | None) -> None:
        """What the script or function was called with."""
        for name in [name for name in self.variables if name.isdigit() or name in "#@*"]:
            del self.variables[name]
        self._arguments = None if arguments is None else list(arguments)
        if arguments is None:
            return
        self.variables["#"] = str(len(arguments))
        for i, value in enumerate(arguments, start=1):
            if value is not None:
                self.variables[str(i)] = value
        # Beyond the last one they are empty.
        for i in range(len(arguments) + 1, 10):
            self.variables[str(i)] = ""
        known = [value for value in arguments if value is not None]
        if len(known) == len(arguments):
            self.variables["@"] = self.variables["*"] = known

    def parse_options(self) -> None:
        """``utils/parse_options.sh``: ``--name value`` before the arguments sets variables."""
        left = self._arguments
        while left and left[0] is not None and left[0].startswith("--") and len(left) > 1:
            name, value = left[0][2:].replace("-", "_"), left[1]
            if value is None:
                self.variables.pop(name, None)
            else:
                self.variables[name] = value
            left = left[2:]
        self.set_arguments(left)

    def values(self, written: Sequence[str]) -> list[str] | None:
        """What a loop goes over; None if that is not certain, or files decide it."""
        _, words = self.words_of(written)
        known = [word for word in words if word is not None and not re.search(r"[*?]", word)]
        return known if len(known) == len(words) else None

    def words_of(self, written: Sequence[str]) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
        """The words of a command without assignments before it, and what they stand for."""
        self.why = ""
        rest = list(written)
        while rest and (_ASSIGNMENT.fullmatch(rest[0]) or _ELEMENT.fullmatch(rest[0])):
            rest.pop(0)
        words: list[str | None] = []
        for word in rest:
            try:
                words += expand(word, self.variables)
            except NotUnderstood as error:
                words.append(None)
                self.why = self.why or str(error)
        return tuple(rest), tuple(words)

    def command(self, written: Sequence[str], words: Sequence[str | None]) -> None:
        """Take over what a command does to variables."""
        assigned = [word for word in written if _ASSIGNMENT.fullmatch(word)]
        self.forget(word.partition("[")[0] for word in written[:1] if _ELEMENT.fullmatch(word))
        if len(assigned) == len(written) or written[0] in _DECLARES:
            for word in assigned:
                self._assign(word)
        elif written[0] == "shift":
            self._shift(words)
        elif list(written[:2]) == ["set", "--"]:
            self.set_arguments(words[2:])
        elif written[0] in _READS:
            self.forget(re.findall(r"\w+", " ".join(written[1:])))

    def _assign(self, word: str) -> None:
        match = _ASSIGNMENT.fullmatch(word)
        if match is None:
            return
        name, more, right = match.groups()
        try:
            value: Value
            if right.startswith("(") and right.endswith(")"):
                value = array_of(right[1:-1], self.variables)
            else:
                value = text_of(right, self.variables)
            if more:
                value = _joined(self.variables[name], value)
            self.variables[name] = value
        except (NotUnderstood, KeyError):
            self.variables.pop(name, None)

    def _shift(self, words: Sequence[str | None]) -> None:
        n = words[1] if len(words) > 1 else "1"
        known = self._arguments is not None and n is not None and n.isdigit()
        self.set_arguments(self._arguments[int(n or 0) :] if known and self._arguments else None)


def _joined(first: Value, second: Value) -> Value:
    if isinstance(first, list) and isinstance(second, list):
        return first + second
    if isinstance(first, str) and isinstance(second, str):
        return first + second
    raise NotUnderstood("an array and a text are joined")


def assigned_in(nodes: Iterable[Node]) -> set[str]:
    """The variables that commands may set."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, Command):
            names |= {m[1] for word in node.words if (m := _ASSIGNMENT.fullmatch(word))}
            if node.words and node.words[0] in _READS:
                names |= set(re.findall(r"\w+", " ".join(node.words[1:])))
        elif isinstance(node, Pipeline):
            names |= assigned_in(node.parts)
        elif isinstance(node, Loop):
            names |= assigned_in(node.condition) | assigned_in(node.body) | {node.variable}
        elif isinstance(node, If):
            for condition, body in node.branches:
                names |= assigned_in(condition) | assigned_in(body)
        elif isinstance(node, Case):
            for _, body in node.arms:
                names |= assigned_in(body)
        elif isinstance(node, (Group, Function)):
            names |= assigned_in(node.body)
    return names - {""}
