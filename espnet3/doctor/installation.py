"""Whether the package and what it needs are installed."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError

from espnet3._conflict import check_single_espnet3
from espnet3.doctor.finding import Finding, ok, problem, warning

OLDEST = (3, 11)
"""The first Python that the package supports."""

FOR_USERS = ("asr", "data", "kube", "whisper")
"""Extras that a recipe may need; the others are for those who change the package."""

_REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)\s*(?:\[.*\])?\s*\(?(?P<versions>[^;()]*)\)?\s*(?:;(?P<marker>.*))?"
)
_EXTRA = re.compile(r"extra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")


def look(needed: frozenset[str] = frozenset()) -> list[Finding]:
    """Check Python, the packages, and that there is one ``espnet3``.

    Args:
        needed: Extras that the configured backend cannot do without.
    """
    return [_python(), _conflict(), *_packages(needed)]


def _python() -> Finding:
    seen = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return problem("Python", seen, f"use Python {oldest} or newer")
    return ok("Python", seen)


def _conflict() -> Finding:
    check = "espnet beside espnet3"
    try:
        check_single_espnet3()
    except ImportError as error:
        return problem(check, str(error), "make a new environment, and install only one of the two")
    return ok(check, "no second espnet3 package is in this environment")


def _packages(needed: frozenset[str]) -> Iterator[Finding]:
    try:
        installed = importlib.metadata.distribution("espnet3")
    except PackageNotFoundError:
        yield warning(
            "packages",
            "espnet3 is imported from a directory, and not installed",
            "install it (`pip install .` where pyproject.toml is), so that its packages are known",
        )
        return
    groups: dict[str, list[str]] = {"": []}
    for requirement in installed.requires or []:
        match = _REQUIREMENT.fullmatch(requirement.strip())
        if match is None:
            continue
        of = _EXTRA.search(match["marker"] or "")
        groups.setdefault(of["extra"] if of else "", []).append(match["name"])
    for extra, names in groups.items():
        if extra in ("", *FOR_USERS):
            yield _group(extra, sorted(set(names)), not extra or extra in needed)


def _group(extra: str, names: list[str], is_needed: bool) -> Finding:
    check = f"packages of espnet3[{extra}]" if extra else "packages"
    versions = {name: version_of(name) for name in names}
    missing = [name for name, version in versions.items() if not version]
    if not missing:
        return ok(check, ", ".join(f"{name} {version}" for name, version in versions.items()))
    how = f"pip install 'espnet3[{extra}]'" if extra else "pip install --upgrade espnet3"
    seen = f"not installed: {', '.join(missing)}"
    if is_needed:
        return problem(check, seen, how)
    return ok(check, f"{seen}; recipes that need them: {how}")


def version_of(package: str) -> str:
    """The version of an installed package; "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except PackageNotFoundError:
        return ""
