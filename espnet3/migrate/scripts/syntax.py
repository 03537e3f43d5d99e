"""What a shell script consists of."""

from __future__ import annotations

from dataclasses import dataclass, field

from espnet3.migrate.scripts.tokens import Inner


@dataclass(frozen=True)
class Redirect:
    """``> file``, and of ``<<`` the here-document."""

    operator: str
    target: str
    body: str = ""


@dataclass
class Node:
    """Any part of a script.

    Attributes:
        line: Where it begins.
        text: As it is written, in one line; of a loop or branch, its head alone.
        conditional: Whether it stands behind ``&&`` or ``||``.
        negated: Whether a ``!`` stands before it.
    """

    line: int
    text: str = ""
    conditional: bool = False
    negated: bool = False


@dataclass
class Command(Node):
    """A command with its words as they are written, or assignments alone."""

    words: tuple[str, ...] = ()
    redirects: tuple[Redirect, ...] = ()
    inner: tuple[Inner, ...] = ()


@dataclass
class Pipeline(Node):
    """Parts that feed each other; there are at least two."""

    parts: list[Node] = field(default_factory=list)


@dataclass
class Loop(Node):
    """``for``, ``select``, ``while`` or ``until``; `values` are None without ``in``."""

    keyword: str = ""
    variable: str = ""
    values: tuple[str, ...] | None = None
    inner: tuple[Inner, ...] = ()
    condition: list[Node] = field(default_factory=list)
    body: list[Node] = field(default_factory=list)
    redirects: tuple[Redirect, ...] = ()


@dataclass
class If(Node):
    """Branches with their conditions; that of ``else`` has none."""

    branches: list[tuple[list[Node], list[Node]]] = field(default_factory=list)


@dataclass
class Case(Node):
    """``case``: its word, and patterns with what follows them."""

    word: str = ""
    arms: list[tuple[str, list[Node]]] = field(default_factory=list)


@dataclass
class Group(Node):
    """``{ }`` or ``( )``, which `alone` has variables of its own."""

    body: list[Node] = field(default_factory=list)
    alone: bool = False


@dataclass
class Function(Node):
    """A definition; it does nothing until it is called."""

    name: str = ""
    body: list[Node] = field(default_factory=list)
