"""What may stand in `options` for `env: ssh`."""

import shutil
from collections.abc import Callable, Mapping
from typing import Any

from espnet3.errors import ConfigError
from espnet3.parallel.wording import nearest, shown

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


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text for text in value)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "hosts": ("a list of host names", lambda value: _texts(value) and bool(value)),
    "job_script_prologue": ("a list of texts", _texts),
    "worker_extra_args": ("a list of texts", _texts),
    "cores": ("a whole number, 1 or more", lambda value: type(value) is int and value > 0),
    "scheduler_options": ("a block of keys", lambda value: isinstance(value, dict)),
}


def option_problems(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options, one sentence each."""
    problems = []
    for key, value in options.items():
        name = f"parallel.options.{key}"
        if key not in DEFAULTS:
            problems.append(f"{name}: ssh has no such option; {nearest(key, DEFAULTS)}")
        elif key in _KINDS and value is not None and not _KINDS[key][1](value):
            problems.append(f"{name}: must be {_KINDS[key][0]}, not {shown(value)}")
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
