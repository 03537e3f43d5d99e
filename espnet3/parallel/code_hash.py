"""What a Python file says: a hash that only an edit of its code changes, and what it imports.

Comments, docstrings, layout and positions do not count, nor does the version of Python.
"""

import ast
import hashlib
import importlib.util
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from symtable import SymbolTable

LARGEST = 1_000_000
"""Bytes of a file that is taken apart; a larger one holds data, and counts byte by byte."""

_NOT_TAKEN_APART = (ValueError, SyntaxError, RecursionError, MemoryError)


class Import(NamedTuple):
    """One name of an import statement, anywhere in a file.

    Attributes:
        level: dots of a relative import.
        module: what is imported, or imported from; "" in ``from . import name``.
        name: what is taken from it, perhaps a submodule; "" for ``import module``.
    """

    level: int
    module: str
    name: str = ""


class Code(NamedTuple):
    """A file's hash, and its imports in the order of the text."""

    digest: str
    imports: tuple[Import, ...] = ()


def read_code(path: str, but: str = "") -> Code | None:
    """The code of a module's file; None if it cannot be read. A file is read again when changed.

    Args:
        path: The file.
        but: A top-level name; a statement that binds nothing else does not count.
    """
    version = _version(path)
    return _read(path, version, but) if version else None


def read_names(path: str, names: Iterable[str]) -> Code | None:
    """The part of a script that makes some of its top-level names, and what that part needs.

    The rest of a script starts things, prints and plots, and decides no result.
    """
    version = _version(path)
    return _read_names(path, version, frozenset(names)) if version else None


def read_sources(texts: Iterable[str]) -> Code | None:
    """The code of pieces of source, such as functions of a notebook; None without any."""
    trees = []
    for text in texts:
        try:
            trees += ast.parse(text).body
        except _NOT_TAKEN_APART:
            continue
    return _code_of(trees) if trees else None


def _version(path: str) -> tuple[int, ...] | None:
    """What is another after a write; None unless it is a file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=4096)
def _read(path: str, _version: tuple[int, ...], but: str) -> Code | None:
    try:
        data = Path(path).read_bytes()
    except OSError:
        return None
    try:
        if len(data) <= LARGEST:
            body = ast.parse(data).body
            return _code_of(node for node in body if not but or {*_bound(node)} != {but})
    except _NOT_TAKEN_APART:
        pass  # whoever imports it will hear; it counts byte by byte
    return Code(_digest(data))


@lru_cache(maxsize=64)
def _read_names(path: str, _version: tuple[int, ...], names: frozenset[str]) -> Code | None:
    try:
        text = importlib.util.decode_source(Path(path).read_bytes())
        statements = _statements_behind(names, ast.parse(text), text, path)
        return _code_of(statements) if statements else None
    except (OSError, *_NOT_TAKEN_APART):
        return None


def _code_of(statements: Iterable[ast.stmt]) -> Code:
    words: list[str] = []
    imports: list[Import] = []
    for statement in statements:
        _spell(statement, words.append, imports)
    return Code(_digest("\0".join(words).encode("utf-8", "surrogatepass")), tuple(imports))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _spell(node: ast.AST, say: Callable[[str], None], imports: list[Import]) -> None:
    """Say a tree as words. Empty fields are left out: newer Pythons have more of them."""
    if isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ):
        return  # a docstring, an ellipsis: does nothing
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        imports += _imports(node)
    say(type(node).__name__)
    for field in node._fields:
        value = getattr(node, field, None)
        if value is None or field == "ctx" or (isinstance(value, list) and not value):
            continue
        say(field)
        if isinstance(value, ast.AST):
            _spell(value, say, imports)
        elif isinstance(value, list):
            for child in value:
                if isinstance(child, ast.AST):
                    _spell(child, say, imports)
                else:
                    say(repr(child))
        else:
            say(repr(value))
    say(")")


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(0, alias.name) for alias in node.names)
    else:
        yield from (Import(node.level, node.module or "", alias.name) for alias in node.names)


def _statements_behind(
    names: frozenset[str], tree: ast.Module, text: str, path: str
) -> list[ast.stmt]:
    """The top-level statements that bind `names`, and those that bind what these use."""
    import symtable  # only a run of a script needs it

    scopes: dict[str, list[symtable.SymbolTable]] = {}
    for scope in symtable.symtable(text, path, "exec").get_children():
        scopes.setdefault(scope.get_name(), []).append(scope)
    statements = list(_flat(tree.body))
    bound = [set(_bound(statement)) for statement in statements]
    chosen: set[int] = set()
    needed, wanted = set(names), {*names, "*"}
    while wanted:
        found = [i for i in range(len(bound)) if i not in chosen and bound[i] & wanted]
        chosen.update(found)
        wanted = {name for i in found for name in _used(statements[i], scopes)} - needed
        needed |= wanted
    return [statements[i] for i in sorted(chosen)]


def _flat(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements; those of a main block one by one, as any of them may define a class."""
    for statement in statements:
        if isinstance(statement, ast.If) and "__name__" in _loads(statement.test):
            yield from statement.body
        else:
            yield statement


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement binds, or whose object it changes: `A = 1`, `A[0] = 1`, `A.add(1)`."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
        return
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        yield from _root(statement.value.func)
    for node in ast.walk(statement):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            yield from _root(node)


def _root(node: ast.expr) -> Iterator[str]:
    """`a` of `a.b[0].c`; nothing for a name alone."""
    inner = node
    while isinstance(inner, (ast.Attribute, ast.Subscript)):
        inner = inner.value
    if isinstance(inner, ast.Name) and inner is not node:
        yield inner.id


def _used(statement: ast.stmt, scopes: "dict[str, list[SymbolTable]]") -> set[str]:
    """Top-level names that a statement reads."""
    if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return _loads(statement)
    if isinstance(statement, ast.ClassDef):
        header: list[ast.AST] = [*statement.bases, *statement.keywords]
    else:
        header = [statement.args, *([statement.returns] if statement.returns else [])]
    used = {name for node in [*header, *statement.decorator_list] for name in _loads(node)}
    todo = list(scopes.get(statement.name, ()))
    while todo:
        scope = todo.pop()
        used |= {s.get_name() for s in scope.get_symbols() if s.is_global() and s.is_referenced()}
        todo += scope.get_children()
    return used


def _loads(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
