"""What was found in a recipe, where, and what became of it: the rows of the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum


class Fate(Enum):
    """What became of a setting."""

    MAPPED = "carried over"
    NEEDLESS = "not needed here"
    LATER = "for training, which comes later"
    UNUSED = "nothing asks for it"
    UNMAPPED = "not carried over"
    PROBLEM = "could not be read"


@dataclass(frozen=True)
class Place:
    """Where something stands: a file relative to the recipe, and its line, from 1."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        """As editors open it."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """One setting of the recipe.

    Attributes:
        setting: As it is written there.
        place: Where.
        fate: What became of it.
        went_to: The key that holds it now, or why there is none.
        decide: What a person must decide; "" if nothing.
        files: The written files that it is in.
    """

    setting: str
    place: Place
    fate: Fate
    went_to: str
    decide: str = ""
    files: tuple[str, ...] = ()


def problem(place: Place, setting: str, why: str) -> Finding:
    """A finding about something that could not be read."""
    return Finding(setting, place, Fate.PROBLEM, why)


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, those that differ in nothing but their files as one."""
    rows: dict[Finding, tuple[str, ...]] = {}
    for finding in findings:
        key = replace(finding, files=())
        rows[key] = tuple(dict.fromkeys((*rows.get(key, ()), *finding.files)))
    return [replace(key, files=files) for key, files in rows.items()]
