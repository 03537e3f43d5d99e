"""What is met on the way through a recipe's scripts."""

from __future__ import annotations

from dataclasses import dataclass, field

from espnet3.migrate.findings import Finding, Place
from espnet3.migrate.scripts.syntax import Redirect


@dataclass(frozen=True)
class Part:
    """One command of a pipeline.

    Attributes:
        written: Its words as they stand there, without assignments before it.
        words: What each word stands for; None for those that are not certain.
        redirects: Its redirections.
        why: Why a word is not certain; "" if all are.
    """

    written: tuple[str, ...]
    words: tuple[str | None, ...]
    redirects: tuple[Redirect, ...]
    why: str = ""


@dataclass(frozen=True)
class Seen:
    """A command, pipeline or loop that was met.

    Attributes:
        place: Where.
        text: As it is written, in one line.
        parts: Its commands; of a loop those of its condition.
        loops: The heads of the loops that it stands in.
        is_loop: Whether it is the head of a loop.
        taken: Whether a run with the script's own defaults comes here, or may.
    """

    place: Place
    text: str
    parts: tuple[Part, ...]
    loops: tuple[str, ...] = ()
    is_loop: bool = False
    taken: bool = True


@dataclass
class Walk:
    """What was met, in order; what could not be read; and which files were."""

    seen: list[Seen] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
