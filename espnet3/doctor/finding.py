"""What a check has seen, and whether all is well with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """Runs will work, but something about them may surprise."""
    PROBLEM = "problem"
    """Runs will fail, or may."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: what was looked at.
        level: how it came out.
        seen: what was seen there.
        advice: what to do; "" where all is well.
    """

    check: str
    level: Level
    seen: str
    advice: str = ""

    def lines(self) -> list[str]:
        """Show it on a terminal."""
        first, *more = self.seen.splitlines() or [""]
        margin = " " * 9
        shown = [f"{self.level:<8} {self.check}: {first}", *(f"{margin}{line}" for line in more)]
        return [*shown, f"{margin}-> {self.advice}"] if self.advice else shown


def ok(check: str, seen: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, seen)


def warning(check: str, seen: str, advice: str) -> Finding:
    """Runs will work, but something about them may surprise."""
    return Finding(check, Level.WARNING, seen, advice)


def problem(check: str, seen: str, advice: str) -> Finding:
    """Runs will fail, or may."""
    return Finding(check, Level.PROBLEM, seen, advice)


def summary(findings: Sequence[Finding]) -> str:
    """How many of each level there are, in words."""
    n = {level: sum(finding.level is level for finding in findings) for level in Level}
    warnings = f"{n[Level.WARNING]} warning{'' if n[Level.WARNING] == 1 else 's'}"
    problems = f"{n[Level.PROBLEM]} problem{'' if n[Level.PROBLEM] == 1 else 's'}"
    return f"{len(findings)} checks: {warnings}, {problems}"
