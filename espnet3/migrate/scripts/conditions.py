"""Which branch a script takes, where its variables tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from espnet3.migrate.scripts.scope import Scope
from espnet3.migrate.scripts.syntax import Command, If, Node
from espnet3.migrate.scripts.values import Value, array_of, text_of
from espnet3.migrate.shell_text import NotUnderstood

_STAGE = re.compile(r"\$\{?\w*stage\b")
_NUMBERS = {
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-le": lambda a, b: a <= b,
    "-lt": lambda a, b: a < b,
    "-ge": lambda a, b: a >= b,
    "-gt": lambda a, b: a > b,
}


def branches(
    node: If, scope: Scope, enter: Callable[[Sequence[Node]], None] | None = None
) -> Iterator[tuple[list[Node], list[Node], Scope, bool | None]]:
    """Go through the branches of an ``if``; behind the last, the scope is as it is after all.

    Args:
        node: the ``if``.
        scope: what holds before it.
        enter: called with each condition, before it is asked whether that holds.

    Yields:
        The condition, which ``else`` has none of; the commands behind it; the scope that they are
        to change; and whether a run comes there, None if that is not certain.
    """
    ends: list[Scope] = []
    certain = False
    for condition, body in node.branches:
        if enter is not None:
            enter(condition)
        met = holds(condition, scope.variables) if condition else True
        branch = scope.copy()
        yield condition, body, branch, False if certain else met
        if met is not False and not certain:
            ends.append(branch)
        certain = certain or met is True
    scope.either(ends, keep_own=not certain)


def holds(condition: Sequence[Node], variables: Mapping[str, Value]) -> bool | None:
    """Tell whether a condition holds; None if that is not certain.

    Stages count as run, and this machine as none of those that are named.
    """
    if any(_STAGE.search(node.text) for node in condition):
        return True
    if any("hostname" in node.text.lower() for node in condition):
        return False  # one site's own
    if len(condition) != 1 or not isinstance(condition[0], Command):
        return None
    node = condition[0]
    try:
        found = _command(node.words, variables)
    except NotUnderstood:
        return None
    return found if found is None else found is not node.negated


def _command(written: Sequence[str], variables: Mapping[str, Value]) -> bool | None:
    words = list(written)
    if len(words) == 1 and words[0].startswith("[["):
        if re.search(r"&&|\|\||[<>()]|=~", words[0]):
            return None
        inside = words[0].removeprefix("[[").removesuffix("]]")
        words = re.findall(r"(?:\"[^\"]*\"|'[^']*'|[^\s])+", inside)
    elif words and words[0] in ("[", "test"):
        words = words[1:-1] if words[0] == "[" else words[1:]
    else:
        one = array_of(" ".join(words), variables)
        return {"true": True, "false": False}.get(one[0]) if len(one) == 1 else None
    negated = words[:1] == ["!"]
    found = _test([text_of(word, variables) for word in words[negated:]])
    return found if found is None else found is not negated


def _test(words: list[str]) -> bool | None:
    if len(words) == 2 and words[0] in ("-z", "-n"):
        return (words[1] == "") is (words[0] == "-z")
    if len(words) != 3:
        return None
    left, operator, right = words
    if operator in ("=", "==", "!="):
        if re.search(r"[*?\[]", right):
            return None
        return (left == right) is (operator != "!=")
    if operator in _NUMBERS and re.fullmatch(r"-?\d+", left) and re.fullmatch(r"-?\d+", right):
        return bool(_NUMBERS[operator](int(left), int(right)))
    return None
