"""The user's code that decides a run's results: a hash of every module that its runner reaches.

Nothing is imported for it: imports are followed in the text, from the modules of the runner, the
provider and what their config names. Only local modules count, not those of Python, of installed
packages and of espnet3 itself. What is imported by a name made at run time is not seen.
"""

import importlib.util
import inspect
import logging
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import espnet3
from espnet3.parallel.code_hash import Code, Import, read_code, read_names, read_sources
from espnet3.parallel.modules_by_path import written_name
from espnet3.utils.module_search import find_below

logger = logging.getLogger(__name__)

MOST_MODULES = 500
"""More are not looked at: a tree of this size is a library, or was not meant."""

_NOT_LOCAL = tuple(
    os.path.join(os.path.dirname(os.path.abspath(file)), "")
    for file in (os.__file__, espnet3.__file__)
    if file
)


@dataclass
class Starts:
    """Where to begin.

    Attributes:
        modules: dotted names of modules.
        names: dotted names of classes and functions in modules, as in a ``_target_``.
        classes: of this process; those of a script count without the rest of the script.
        files: modules that are not found by their name: their file (a package's ``__init__.py``).
        called: how modules (and those below them) are called instead of their own name.
        but: module -> a name in it that decides no result, nor do the modules that it comes from.
    """

    modules: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    classes: list[Any] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)
    but: dict[str, str] = field(default_factory=dict)


def starts_of(runner: type, provider: Any, config: Any) -> Starts:
    """Begin at the classes of runner and provider, and at what a config (plain data) names."""
    starts = Starts(classes=[*runner.__mro__, *type(provider).__mro__])
    for key, value in _leaves(config):
        if key in ("_target_", "path") and isinstance(value, str):
            starts.names.append(value)  # `path`: of hydra.utils.get_method and the like
        elif not isinstance(value, (str, int, float, type(None))):
            is_named = isinstance(value, (type, FunctionType))
            starts.classes.append(value if is_named else type(value))
    return starts


def code_of(starts: Starts) -> dict[str, str]:
    """A hash for every local module that is reached from `starts`, by the module's name.

    At most `MOST_MODULES`, the nearest ones.
    """
    finder = _Finder(starts.files)
    found: dict[str, Code] = {}
    first = sorted(_first_modules(starts, finder))
    main = _main_code([c for c in starts.classes if getattr(c, "__module__", "") == "__main__"])
    if main is not None:
        found["__main__"] = main
        package = getattr(sys.modules["__main__"], "__package__", None) or ""
        first += _imported(main.imports, package, finder)
    todo = deque(dict.fromkeys(first))
    seen = set(todo)
    while todo:
        name = todo.popleft()
        module = finder.find(name)
        but = starts.but.get(name, "")
        code = read_code(module.file, but) if module and module.file else None
        if module is None or code is None:
            continue
        if len(found) >= MOST_MODULES:
            logger.debug("only the first %d modules are watched for edits", MOST_MODULES)
            break
        found[name] = code
        package = name if module.is_package else name.rpartition(".")[0]
        for other in _imported(code.imports, package, finder):
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return {_called(name, starts.called): code.digest for name, code in sorted(found.items())}


def _first_modules(starts: Starts, finder: "_Finder") -> set[str]:
    names = {*starts.modules, *starts.files}
    names |= {str(getattr(c, "__module__", "")) for c in starts.classes}
    names |= {name for dotted in starts.names for name in finder.modules_in(dotted)}
    return {name for own in names - {"__main__"} for name in finder.modules_in(own)}


def _called(name: str, called: Mapping[str, str]) -> str:
    for own, other in called.items():
        if name == own or name.startswith(own + "."):
            return other + name[len(own) :]
    return written_name(name)


def _imported(imports: Iterable[Import], package: str, finder: "_Finder") -> Iterator[str]:
    """The local modules that imports run: packages on the way, and names that are submodules."""
    for one in imports:
        base = one.module
        if one.level:
            parents = package.split(".")
            if not package or one.level > len(parents):
                continue
            base = ".".join([*parents[: len(parents) - one.level + 1], *filter(None, [one.module])])
        yield from finder.modules_in(f"{base}.{one.name}" if one.name not in ("", "*") else base)


class _Module(NamedTuple):
    """Where a local module is: its file, and the folders that its submodules may be in."""

    file: str | None
    folders: tuple[str, ...] = ()
    is_package: bool = False


class _Finder:
    """Finds local modules by name; each is looked for once."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._known: dict[str, _Module | None] = {
            name: _Module(path, (os.path.dirname(path),), True) for name, path in files.items()
        }

    def find(self, name: str) -> _Module | None:
        """A module; None if it is not there or not local."""
        if not name.rpartition(".")[2].isidentifier():
            return None
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def modules_in(self, dotted: str) -> Iterator[str]:
        """Every module on the way along a dotted name: `a`, `a.b` for a function `a.b.f`."""
        for stop in [i for i, char in enumerate(dotted) if char == "."] + [len(dotted)]:
            if self.find(dotted[:stop]) is None:
                return
            yield dotted[:stop]

    def _look(self, name: str) -> _Module | None:
        above = name.rpartition(".")[0]
        parent = self.find(above) if above else None
        if name == "__main__" or not name or (above and not (parent and parent.folders)):
            return None
        loaded = sys.modules.get(name)
        if issubclass(type(loaded), ModuleType):  # isinstance would ask the object
            # Its dictionary: asking a lazy module for an attribute may import it.
            entries = object.__getattribute__(loaded, "__dict__")
            return _module(entries.get("__file__"), entries.get("__path__"))
        spec = _spec(name, parent)
        return _module(spec.origin, spec.submodule_search_locations) if spec else None


def _spec(name: str, parent: _Module | None) -> ModuleSpec | None:
    try:
        if parent is None:
            return importlib.util.find_spec(name)
        return find_below(parent.folders, name.rpartition(".")[2])
    except Exception:  # somebody's import hook
        return None


def _module(file: Any, folders: Any) -> _Module | None:
    own = file if isinstance(file, str) and file.endswith(".py") and _is_local(file) else None
    try:
        inside = tuple(f for f in folders or () if isinstance(f, str) and _is_local(f))
    except Exception:  # a path of somebody's own kind
        inside = ()
    return _Module(own, inside, folders is not None) if own or inside else None


def _is_local(path: str) -> bool:
    path = os.path.join(os.path.abspath(path), "")
    installed = f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path
    return not installed and not path.startswith(_NOT_LOCAL)


def _main_code(things: list[Any]) -> Code | None:
    """The part of the running script, or of a notebook, that makes these classes and functions."""
    if not things:
        return None
    file = getattr(sys.modules["__main__"], "__file__", None)
    if isinstance(file, str) and os.path.exists(file):
        return read_names(file, {thing.__qualname__.partition(".")[0] for thing in things})
    import textwrap  # only a notebook needs it

    texts = []
    for function in sorted(set(_functions(things)), key=lambda f: f.__qualname__):
        try:
            texts.append(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError, SyntaxError, IndexError):
            continue
    return read_sources(texts)


def _functions(things: Iterable[Any]) -> Iterator[FunctionType]:
    for thing in things:
        for value in [thing, *vars(thing).values()]:
            function = getattr(value, "__func__", value)
            if isinstance(function, FunctionType):
                yield function


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for inner_key, inner in value.items():
            yield from _leaves(inner, str(inner_key))
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value
