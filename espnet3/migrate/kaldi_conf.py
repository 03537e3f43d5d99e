"""The option language of ``conf/{queue,slurm,pbs}.conf``.

Four kinds of lines, and comments from ``#`` on::

    command qsub -V                  what submits; the last one counts
    option mem=* -l mem_free=$0      any other value of --mem; $0 is the value
    option mem=0                     this value of --mem; it adds nothing
    default gpu=0                    the value of --gpu where a command has none

A ``default`` holds for the options in the lines behind it. An option that no line describes is
refused by the scripts, and so it is here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from espnet3.migrate.findings import Finding, Place, problem

_COMMAND = re.compile(r"command (.+)")
_ANY = re.compile(r"option ([^=]+)=\* (.+)")
_VALUE = re.compile(r"option ([^=]+)=(\S+)\s?(.*)")
_DEFAULT = re.compile(r"default (\S+)=(\S+)")

# What the scripts do where there is no such file. `max_jobs_run` is slurm.pl's own affair.
_SGE = """\
command qsub -v PATH -cwd -S /bin/bash -j y -l arch=*64*
option mem=* -l mem_free=$0,ram_free=$0
option mem=0
option num_threads=* -pe smp $0
option num_threads=1
option max_jobs_run=* -tc $0
default gpu=0
option gpu=0
option gpu=* -l gpu=$0 -q '*.q'
"""
_SLURM = """\
command sbatch --export=PATH --ntasks-per-node=1
option time=* --time $0
option mem=* --mem-per-cpu $0
option mem=0
option num_threads=* --cpus-per-task $0
option num_threads=1 --cpus-per-task 1
default gpu=0
option gpu=0 -p shared
option gpu=* -p gpu --gres=gpu:$0 --time 4:0:0
"""
_PBS = """\
command qsub -V -v PATH -S /bin/bash -l mem=4G
option mem=* -l mem=$0
option mem=0
option num_threads=* -l ncpus=$0
option num_threads=1
default gpu=0
option gpu=0
option gpu=* -l ncpus=$0
"""
FILES = {"sge": "conf/queue.conf", "slurm": "conf/slurm.conf", "pbs": "conf/pbs.conf"}
BUILT_IN = {"sge": _SGE, "slurm": _SLURM, "pbs": _PBS}


@dataclass(frozen=True)
class Line:
    """A line of a conf file.

    Attributes:
        kind: command, option or default.
        name: The option's name; "" of a command.
        value: The value it is for; ``*`` is any.
        text: What it adds to the command that submits.
        place: Where it stands.
    """

    kind: str
    name: str
    value: str
    text: str
    place: Place

    def __str__(self) -> str:
        """The line, without its comment."""
        head = self.kind if self.kind == "command" else f"{self.kind} {self.name}={self.value}"
        return f"{head} {self.text}".rstrip()


@dataclass(frozen=True)
class Piece:
    """A piece of the command that would have submitted a job, and the line or word behind it."""

    text: str
    place: Place
    setting: str


def parse_conf(text: str, file: str, numbered: bool = True) -> tuple[list[Line], list[Finding]]:
    """The lines of a conf file, and what in it is none.

    Args:
        text: the file's content.
        file: its name, for the report.
        numbered: whether there is such a file, with lines to point at.
    """
    lines: list[Line] = []
    findings: list[Finding] = []
    for number, raw in enumerate(text.split("\n"), start=1):
        place = Place(file, number if numbered else None)
        code = re.sub(r"\s*#.*", "", raw).strip()
        if not code:
            continue
        if match := _COMMAND.fullmatch(code):
            lines.append(Line("command", "", "", match[1].strip(), place))
        elif match := _ANY.fullmatch(code):
            lines.append(Line("option", match[1], "*", match[2].strip(), place))
        elif match := _VALUE.fullmatch(code):
            lines.append(Line("option", match[1], match[2], match[3].strip(), place))
        elif match := _DEFAULT.fullmatch(code):
            lines.append(Line("default", match[1], match[2], "", place))
        else:
            findings.append(
                problem(place, code, "no `command`, `option name=value` or `default name=value`")
            )
    if not any(line.kind == "command" for line in lines):
        findings.append(problem(Place(file), file, "it has no line `command ...`"))
    return lines, findings


@dataclass(frozen=True)
class Submission:
    """What a conf file makes of a command's options.

    Attributes:
        pieces: What would have been behind the command that submits, and the command itself first.
        used: The lines that took part.
        refused: Options that no line describes.
    """

    pieces: list[Piece]
    used: list[Line]
    refused: dict[str, str]


def submission(lines: list[Line], options: Mapping[str, str]) -> Submission:
    """Look each option up, in the order of the file, as the scripts do."""
    given = dict(options)
    commands = [line for line in lines if line.kind == "command"]
    done = Submission([], commands[-1:], {})
    exact: dict[str, Line] = {}
    others: dict[str, Line] = {}
    for line in lines:
        if line.kind == "default" and line.name not in given:
            given[line.name] = line.value
            done.used.append(line)
        elif line.kind == "option" and line.name in given:
            if line.value == given[line.name]:
                exact[line.name] = line
            elif line.value == "*":
                others[line.name] = line
    done.pieces.extend(Piece(line.text, line.place, str(line)) for line in commands[-1:])
    for name, value in given.items():
        found = exact.get(name) or others.get(name)
        if found is not None:
            done.used.append(found)
            text = found.text.replace("$0", value) if found.value == "*" else found.text
            done.pieces.append(Piece(text, found.place, str(found)))
        else:
            done.refused[name] = value
    return done
