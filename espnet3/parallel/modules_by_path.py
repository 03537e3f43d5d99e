"""Modules that no name on ``sys.path`` leads to, such as a recipe's own ``dataset/``.

They are imported from their files under names of ours, and what is pickled here takes along where
they lie: a runner or provider that is written in such a module can be sent to workers.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle


class _Finder:
    """Finds what was registered, for Python's import."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by Python's import for each module that was not imported yet."""
        file = self.files.get(name)
        if file is None:
            return None
        return spec_from_file_location(
            name, file, submodule_search_locations=[str(Path(file).parent)]
        )


_finder = _Finder()


def register(files: Mapping[str, str]) -> None:
    """Let these names be imported in this process.

    Args:
        files: module name -> path of the ``__init__.py`` of a package.
    """
    _finder.files |= files
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)


def written_name(module: str) -> str:
    """How a module is called in what is written down: `dataset.builder`, wherever it lies.

    The name that it is imported under would not be the same when the recipe was moved or copied.
    """
    package, dot, inner = module.partition(".")
    file = _finder.files.get(package)
    return module if file is None else f"{Path(file).parent.name}{dot}{inner}"


def dumps(value: Any) -> bytes:
    """Pickle by cloudpickle, with the way to all modules that were registered here."""
    return bytes(cloudpickle.dumps((_finder.files, cloudpickle.dumps(value))))


def loads(data: bytes) -> Any:
    """Read what `dumps` has made, in any process that sees the same files."""
    files, inner = cloudpickle.loads(data)
    register(files)
    return cloudpickle.loads(inner)


class Carried:
    """A value whose pickle takes along the way to the modules that it needs."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _carried, (dumps(self.value),)


def _carried(data: bytes) -> Carried:
    return Carried(loads(data))
