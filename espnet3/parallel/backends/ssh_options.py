"""What may stand in `options` for `env: ssh`."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet3.errors import ConfigError
from espnet3.parallel.backends.options import (
    BLOCK,
    POSITIVE,
    TEXTS,
    Kind,
    is_texts,
    kind_problems,
    laid_over,
)

DEFAULTS: dict[str, Any] = {
    "hosts": None,
    # No questions: nobody would see them.
    "ssh_command": "ssh -o BatchMode=yes",
    "python": None,
    "cores": 1,
    "memory": None,
    "interface": None,
    "scheduler_options": {},
    "job_script_prologue": [],
    "worker_extra_args": [],
    "local_directory": '"${TMPDIR:-/tmp}"',
    "log_directory": None,
    "death_timeout": 60,
}


_KINDS: dict[str, Kind] = {
    "hosts": ("a list of host names", lambda value: is_texts(value) and bool(value)),
    "job_script_prologue": TEXTS,
    "worker_extra_args": TEXTS,
    "cores": POSITIVE,
    "scheduler_options": BLOCK,
}


def option_problems(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options, one sentence each."""
    problems = kind_problems("ssh", options, DEFAULTS, _KINDS)
    if options.get("hosts") is None:
        problems.append(
            "parallel.options.hosts: is not set; list the hosts, as in `hosts: [node1, node2]`"
        )
    return problems


def check(options: Mapping[str, Any]) -> None:
    """See that the options are right and that there is an `ssh`.

    Raises:
        ConfigError: if not.
    """
    problems = option_problems(options)
    if problems:
        raise ConfigError("; ".join(problems))
    program = (options.get("ssh_command") or DEFAULTS["ssh_command"]).split()[0]
    if shutil.which(program) is None:
        raise ConfigError(f"parallel.env: ssh needs `{program}`, which is not on the PATH")


def with_defaults(options: Mapping[str, Any], logs: Path) -> dict[str, Any]:
    """Checked options laid over ours; job logs go to `logs` unless they say otherwise."""
    return laid_over(DEFAULTS, options, logs)
