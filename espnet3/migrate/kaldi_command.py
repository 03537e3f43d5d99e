"""Commands such as ``queue.pl --mem 4G -q long.q``, as these scripts read their own options."""

from __future__ import annotations

from dataclasses import dataclass

from espnet3.migrate.findings import Place
from espnet3.migrate.shell_text import NotUnderstood, words

ENVS = {
    "run.pl": "local",
    "stdout.pl": "local",
    "queue.pl": "sge",
    "queue-freegpu.pl": "sge",
    "slurm.pl": "slurm",
    "pbs.pl": "pbs",
    "ssh.pl": "ssh",
}
"""What is written into `parallel.env` instead of each script."""


@dataclass(frozen=True)
class Command:
    """A command that jobs are started with.

    Attributes:
        program: The script, without its directory.
        options: Those with two dashes, as conf files name them (``max_jobs_run``), in order.
        native: The scheduler's own options, passed through as they are: ``-q long.q``.
        place: Where the command stands.
        wrapped: Whether ``retry.pl`` stood before it.
    """

    program: str
    options: dict[str, str]
    native: list[str]
    place: Place
    wrapped: bool = False

    @property
    def env(self) -> str:
        """The backend."""
        return ENVS[self.program]


def parse_command(text: str, place: Place) -> Command:
    """Read a command.

    Raises:
        NotUnderstood: if its program is none of those known, or an option lacks its value.
    """
    rest = words(text)
    wrapped = bool(rest) and _base(rest[0]) == "retry.pl"
    if wrapped:
        rest = rest[1:]
        while len(rest) > 1 and rest[0].startswith("-"):
            rest = rest[2:]
    if not rest:
        raise NotUnderstood("it is empty")
    program, rest = _base(rest[0]), rest[1:]
    if program not in ENVS:
        raise NotUnderstood(f"{program} is none of {', '.join(ENVS)}")
    command = Command(program, {}, [], place, wrapped)
    while rest:
        switch, rest = rest[0], rest[1:]
        if not switch.startswith("-"):
            raise NotUnderstood(f"{switch!r} stands where an option is expected")
        n = {"-V": 0, "-cwd": 0, "-pe": 2}.get(switch, 1)
        values, rest = rest[:n], rest[n:]
        if len(values) < n:
            raise NotUnderstood(f"the option {switch} has no value")
        if switch.startswith("--"):
            name = switch[2:].replace("-", "_")
            command.options.pop(name, None)
            command.options[name] = values[0]
        else:
            command.native.append(" ".join([switch, *values]))
    return command


def _base(word: str) -> str:
    return word.rpartition("/")[2]
