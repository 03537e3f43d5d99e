"""The rows about data preparation: what each line of the scripts is for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet3.migrate.data.kinds import REPLACED_BY, Kind, kind_of
from espnet3.migrate.findings import Finding, Place, problem
from espnet3.migrate.scripts.met import Part, Seen
from espnet3.migrate.scripts.walk import SETTINGS, walk

SCRIPT = "local/data.sh"
_JOB = re.compile(r"\"?'?JOB=1:")
_FILES_LOOP = re.compile(r"[*?]|\bfind\b|\bcat\b|\bls\b|<|\bawk\b|\bcut\b|\bgrep\b|@|\bsed\b")
# What writes `sox ... |` and the like into a wav.scp.
_PIPE = re.compile(r"\b(sph2pipe|sox|ffmpeg|flac|SPH2PIPE|FFMPEG|SOX)\b.*\|")
_ORDER = list(Kind)


@dataclass(frozen=True)
class Step:
    """One line of the report.

    Attributes:
        kind: What it is for.
        place: Where it stands.
        text: As it is written there.
        replaced_by: What does the same here.
        loop: The head of the loop around it; "" if there is none.
    """

    kind: Kind
    place: Place
    text: str
    replaced_by: str
    loop: str = ""


@dataclass
class DataSteps:
    """What the scripts of data preparation do.

    Attributes:
        steps: In the order in which they are met.
        seen: The same with what words stand for; what no run comes to is not in it.
        n_housekeeping: How many lines are about directories, checks and messages alone.
        files: The scripts that were read.
        findings: What could not be read.
    """

    steps: list[Step] = field(default_factory=list)
    seen: list[tuple[Step, Seen]] = field(default_factory=list)
    n_housekeeping: int = 0
    files: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_data_steps(recipe: Path) -> DataSteps:
    """Read ``local/data.sh`` of a recipe and what it calls.

    Args:
        recipe: the recipe's directory.
    """
    met = walk(recipe, SCRIPT)
    read = [name for name in met.files if not SETTINGS.fullmatch(name)]
    done = DataSteps(files=read, findings=list(met.findings))
    if SCRIPT in met.missing:
        why = "there is none, so nothing is known about data preparation"
        done.findings.append(problem(Place(SCRIPT), SCRIPT, why))
    for name in sorted(met.missing - {SCRIPT}):
        done.findings.append(problem(Place(name), name, "a script calls it, and it is not there"))
    known: dict[tuple[Place, str], Step] = {}
    counted: Counter[Kind] = Counter()
    for seen in met.seen:
        key = (seen.place, seen.text)
        step = known.get(key)
        if step is None:
            known[key] = step = _step(seen)
            counted[step.kind] += 1
            if step.kind is not Kind.HOUSEKEEPING:
                done.steps.append(step)
        if seen.taken and step.kind is not Kind.HOUSEKEEPING:
            done.seen.append((step, seen))
    done.n_housekeeping = counted[Kind.HOUSEKEEPING]
    return done


def _step(seen: Seen) -> Step:
    loop = seen.loops[-1] if seen.loops else ""
    if seen.is_loop:
        kind, replaced_by = _loop(seen)
    else:
        kind, replaced_by = _first(seen.parts)
        if kind is Kind.HOUSEKEEPING and _writes_data(seen.parts):
            kind, replaced_by = Kind.TEXT, REPLACED_BY[Kind.TEXT]
        if kind is Kind.TEXT and _PIPE.search(seen.text):
            kind, replaced_by = Kind.AUDIO, REPLACED_BY[Kind.AUDIO]
    return Step(kind, seen.place, seen.text, replaced_by, loop)


def _loop(seen: Seen) -> tuple[Kind, str]:
    if seen.text.startswith("for (("):
        return Kind.LOOP, REPLACED_BY[Kind.LOOP]
    if "read" in seen.text.split() or _FILES_LOOP.search(seen.text):
        return Kind.PER_FILE, REPLACED_BY[Kind.PER_FILE]
    if seen.text.startswith(("for", "select")):
        return Kind.LOOP, REPLACED_BY[Kind.LOOP]
    return Kind.HOUSEKEEPING, ""


def _first(parts: Iterable[Part]) -> tuple[Kind, str]:
    """The kind that counts among those of the parts."""
    found = [_kind(part) for part in parts if part.written]
    if not found:
        return Kind.HOUSEKEEPING, ""
    return min(found, key=lambda one: _ORDER.index(one[0]))


def _kind(part: Part) -> tuple[Kind, str]:
    return kind_of(part.written, part.words, any(_JOB.match(word) for word in part.written))


def _writes_data(parts: Sequence[Part]) -> bool:
    """Whether a message or a check goes to a file."""
    return any(
        redirect.operator in (">", ">>") and not redirect.target.startswith("/dev/")
        for part in parts
        for redirect in part.redirects
    )
