"""Finding a module in folders without importing anything."""

from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder


def find_below(folders: Sequence[str], part: str) -> ModuleSpec | None:
    """Where the submodule `part` of a package with these folders is; None if it is not there.

    The spec's name is `part` alone: for a dotted one, Python would look for the packages above it
    among those that are imported, if there is a folder without ``__init__.py`` (a namespace
    package) on the way.
    """
    return PathFinder.find_spec(part, list(folders))
