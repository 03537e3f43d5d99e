"""``JOB=1:N`` and ``split_scp.pl`` in all scripts that are the recipe's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from espnet3.migrate.findings import Finding, Place
from espnet3.migrate.shell_text import statements
from espnet3.migrate.text_files import read_text

_SPLITS = re.compile(r"\bsplit_(scp\.pl|data\.sh)\b")
_JOBS = re.compile(r"\bJOB=1:")
_WAITS = re.compile(r"^(for|while)\b.*\bseq\b.*\$\{?_?nj\b")
# Links to, or copies of, what all recipes of a task share.
_SHARED = ("utils", "steps", "scripts", "pyscripts", "TEMPLATE")
_OURS = (
    (re.compile(r"decode|infer", re.I), "the `infer` stage, with `parallel:` of the config"),
    (re.compile(r"format_wav_scp|sox|ffmpeg|flac|sph2pipe|convert|wav", re.I), "`format_audio`"),
    (re.compile(r"stft|fbank|mfcc|feat|stats", re.I), "`collect_stats` or a runner of your own"),
)
PARALLEL = "n_workers of `parallel:` instead of nj"


@dataclass(frozen=True)
class ArrayJob:
    """A place where a list is cut into pieces, or a job is started for each of them."""

    place: Place
    text: str
    replaced_by: str


def find_array_jobs(recipe: Path) -> tuple[list[ArrayJob], list[Finding]]:
    """Those of a recipe, and what could not be read.

    Args:
        recipe: the recipe's directory.
    """
    done: list[ArrayJob] = []
    problems: list[Finding] = []
    for name in _scripts(recipe):
        text, findings = read_text(recipe, name)
        problems += findings
        if text is None or not (_SPLITS.search(text) or _JOBS.search(text)):
            continue
        for number, statement in statements(text):
            line = " ".join(statement.split())
            if _JOBS.search(line):
                done.append(ArrayJob(Place(name, number), line, _replacement(line)))
            elif _SPLITS.search(line):
                why = f"nothing: items are dealt to workers in short ranges; {PARALLEL}"
                done.append(ArrayJob(Place(name, number), line, why))
            elif _WAITS.search(line):
                why = "nothing: what workers return is put together in the order of the items"
                done.append(ArrayJob(Place(name, number), line, why))
    return done, problems


def _replacement(line: str) -> str:
    program = line.partition("JOB=1:")[2][:120]
    known = next((ours for pattern, ours in _OURS if pattern.search(program)), "")
    own = "a provider and runner (docs/provider-and-runner.md)"
    return f"{known or own}; {PARALLEL}"


def _scripts(recipe: Path) -> Iterator[str]:
    """The shell scripts of a recipe, without what it shares with others of its task."""
    files = [*recipe.glob("*.sh"), *recipe.glob("local/**/*.sh")]
    for path in sorted(files):
        inside = path.relative_to(recipe)
        shared = path.is_symlink() or path.resolve().parent.parts.count("TEMPLATE")
        if shared or _SHARED[0] in inside.parts or _is_task_script(recipe, path):
            continue
        yield inside.as_posix()


def _is_task_script(recipe: Path, path: Path) -> bool:
    """Whether it is a copy of asr.sh and its like, which archives hold in place of links."""
    return path.parent == recipe and path.name not in ("run.sh", "cmd.sh", "path.sh", "db.sh")
