"""Whether a dotted name such as a ``_target_`` leads to something, without importing it."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from espnet3.utils.module_search import find_below


def targets(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every ``_target_`` in plain containers."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in items:
        name = f"{prefix}.{key}" if prefix else str(key)
        if key == "_target_":
            yield name, child
        elif isinstance(child, (dict, list)):
            yield from targets(child, name)


def why_not_importable(name: Any) -> str:
    """Return what is wrong with a dotted name; empty if it leads somewhere or if that is unknown.

    Nothing is imported, so that checking a config does not load a framework: modules are looked up
    on ``sys.path``, and their text is searched for the name. Not guaranteed: that the import works.
    """
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        return f"{name!r} is no dotted name such as package.module.Class"
    parts = name.split(".")
    try:
        spec = importlib.util.find_spec(parts[0])
    except ValueError:  # a module that was put into sys.modules by hand
        return ""
    if spec is None:
        return f"{name}: there is no module {parts[0]!r} on the Python path"
    depth = 1
    while depth < len(parts):
        child = _submodule(spec, parts[depth])
        if child is None:
            break
        spec, depth = child, depth + 1
    module = ".".join(parts[:depth])
    if depth == len(parts):
        return f"{name} is a module; name a class or function in it"
    if _may_define(module, spec, parts[depth]):
        return ""
    return f"{name}: {module} defines no {parts[depth]!r}"


def _submodule(spec: ModuleSpec, name: str) -> ModuleSpec | None:
    if spec.submodule_search_locations is None:
        return None
    return find_below(list(spec.submodule_search_locations), name)


def _may_define(module: str, spec: ModuleSpec, name: str) -> bool:
    if module in sys.modules:
        return hasattr(sys.modules[module], name)
    if not spec.origin or not spec.origin.endswith(".py"):
        return spec.origin is not None  # compiled: unknown; a folder without __init__: nothing
    try:
        text = Path(spec.origin).read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return True  # importing it will say
    if "__getattr__" in text or "globals()" in text or "import *" in text:
        return True
    return any(name in _names(node) for node in ast.walk(tree))


def _names(node: ast.AST) -> Iterator[str]:
    """Yield what a statement may bind; those inside functions too, which errs towards yes."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
