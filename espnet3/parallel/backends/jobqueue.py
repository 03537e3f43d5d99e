"""`env: slurm`, `pbs`, `sge`, ...: the options of batch jobs.

Everything that ends up in a job script is decided here, from the options and defaults that a user
would otherwise have to know.
"""

import fnmatch
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet3.errors import ConfigError
from espnet3.parallel.backends import queues, walltime
from espnet3.parallel.backends.environment import shell_lines
from espnet3.parallel.backends.job_states import AskJobs
from espnet3.parallel.backends.schedulers import SCHEDULERS
from espnet3.parallel.wording import nearest, shown

ENTRY = "espnet3.parallel.worker.entry"

_ENGINE = "the engine sets it itself"
_SCHEDULER_SIDE = "put it under scheduler_options"
OURS: dict[str, str] = {
    "n_workers": "set parallel.n_workers instead",
    "nanny": "a worker always has a nanny, which tells how it ended",
    "security": "set parallel.security instead",
    "protocol": "parallel.security decides it",
    "host": _SCHEDULER_SIDE,
    "dashboard_address": _SCHEDULER_SIDE,
    **dict.fromkeys(
        ("asynchronous", "loop", "job_cls", "scheduler_cls", "worker_command", "name"), _ENGINE
    ),
    "extra": "write worker_extra_args",
    "job_extra": "write job_extra_directives",
    "env_extra": "write job_script_prologue",
    "header_skip": "write job_directives_skip",
}
"""Options of the cluster classes that are refused, and why."""


MEANT = {"partition": "queue", "time": "walltime", "gres": "job_extra_directives"}
"""What schedulers call things that are options by another name."""

LISTS = (
    "worker_extra_args",
    "job_script_prologue",
    "job_extra_directives",
    "job_directives_skip",
)
LEAST_MEMORY = 1_000_000  # bytes; less is an amount whose unit was forgotten


def cluster_class(env: str) -> Any:
    """The class of dask-jobqueue, without what importing it does to Ctrl-C."""
    if "dask_jobqueue" not in sys.modules:
        if threading.current_thread() is not threading.main_thread():
            raise ConfigError(
                f"env: {env} was first used outside the main thread, where dask_jobqueue cannot be "
                "imported; import it at the top of the program"
            )
        before = signal.getsignal(signal.SIGINT)
        try:
            import dask_jobqueue  # noqa: F401
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)
    return getattr(sys.modules["dask_jobqueue"], SCHEDULERS[env].cluster)


def valid_options(env: str) -> set[str]:
    """Every option that the cluster class of `env` takes and that is the user's to set."""
    import inspect

    cls = cluster_class(env)
    names: set[str] = set()
    for one in (*cls.__mro__, *cls.job_cls.__mro__):
        if one.__module__.startswith("dask_jobqueue"):
            parameters = inspect.signature(one.__init__).parameters.values()
            names |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    return names - {"self", "scheduler", *OURS}


def option_problems(env: str, options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options of a job, one sentence each."""
    cls, valid, problems = SCHEDULERS[env].cluster, valid_options(env), []
    for key, value in options.items():
        name = f"parallel.options.{key}"
        if key in OURS:
            problems.append(f"{name}: {OURS[key]}")
        elif key not in valid:
            meant = MEANT.get(key)
            hint = f"did you mean {meant}?" if meant in valid else nearest(key, valid)
            problems.append(f"{name}: {cls} has no such option; {hint}")
        elif key == "processes" and value != 1:
            problems.append(f"{name}: one job is one worker; raise parallel.n_workers instead")
        elif key == "cores" and (type(value) is not int or value < 1):
            problems.append(f"{name}: must be a whole number, 1 or more, not {shown(value)}")
        elif key in LISTS and value is not None and not isinstance(value, _kind(env, key)):
            kind = "list of texts" if _kind(env, key) is list else "block of keys"
            problems.append(f"{name}: must be a {kind}, not {shown(value)}")
        elif key == "scheduler_options" and value is not None and not isinstance(value, Mapping):
            problems.append(f"{name}: must be a block of keys, not {shown(value)}")
        elif key == "memory" and value is not None:
            problems += _memory_problem(value)
        elif key == "walltime" and value is not None:
            problems += _walltime_problem(env, value)
        elif key == "log_directory" and any(c.isspace() for c in str(value)):
            problems.append(f"{name}: job scripts cannot have spaces in it ({shown(value)})")
    if options.get("memory") is None and _dask_config(env, "memory") is None:
        problems.append(
            "parallel.options.memory: is not set; it is what one job may use, as in `memory: 4GB`"
        )
    return problems


def _kind(env: str, key: str) -> type:
    return dict if env == "htcondor" and key == "job_extra_directives" else list


def _memory_problem(value: Any) -> list[str]:
    from dask.utils import parse_bytes

    try:
        if not isinstance(value, bool) and parse_bytes(value) >= LEAST_MEMORY:
            return []
    except (ValueError, TypeError, AttributeError):
        pass
    return [
        f"parallel.options.memory: must be an amount with its unit, as in `memory: 4GB`, "
        f"not {shown(value)}"
    ]


def _walltime_problem(env: str, value: Any) -> list[str]:
    scheduler = SCHEDULERS[env]
    try:
        walltime.as_text(value, scheduler.units)
    except ValueError:
        return [
            f"parallel.options.walltime: must be a number of seconds, or a text such as "
            f'"{scheduler.example}", not {shown(value)}'
        ]
    return []


def check_commands(env: str) -> None:
    """See that this host can submit jobs.

    Raises:
        ConfigError: naming the command that is missing.
    """
    job = cluster_class(env).job_cls
    for command in (job.submit_command, job.cancel_command):
        program = command.split()[0]
        if shutil.which(program) is None:
            raise ConfigError(
                f"parallel.env: {env} submits jobs with `{program}`, which is not on the PATH of "
                f"{os.uname().nodename}; is this a host that jobs are submitted from?"
            )


def job_options(env: str, options: Mapping[str, Any], logs: Path) -> dict[str, Any]:
    """All options of the cluster class, ours included.

    Args:
        env: the scheduler.
        options: the user's.
        logs: where job logs go unless the user says otherwise; both sides must see it.

    Raises:
        ConfigError: if options are wrong, or a walltime is missing that nobody can be asked for.
    """
    problems = option_problems(env, options)
    if problems:
        raise ConfigError("; ".join(problems))
    scheduler = SCHEDULERS[env]
    given = {
        "cores": 1,
        "processes": 1,
        "job_name": "espnet3",
        # The node's own disk, as its shell sees it.
        "local_directory": '"${TMPDIR:-/tmp}"',
        # Python and Dask may take a minute to load from a shared disk.
        "death_timeout": 120,
        "log_directory": str(logs),
        **scheduler.defaults,
        **{key: value for key, value in options.items() if value is not None},
    }
    _check_queue(env, given.get("queue"))
    given["python"] = f"exec {given.get('python', shlex.quote(sys.executable))}"
    given["worker_command"] = ENTRY
    extra = given.get("worker_extra_args", [])
    if scheduler.example:
        given["walltime"] = _walltime(env, given)
        if given["walltime"] is None:  # Dask's class would ask for half an hour
            given["job_directives_skip"] = [*given.get("job_directives_skip", []), "-l h_rt="]
        else:
            seconds = walltime.in_seconds(given["walltime"], scheduler.units)
            if seconds > 0:
                extra = ["--drain-after", str(walltime.drain_after(seconds)), *extra]
    given["worker_extra_args"] = extra
    given["job_script_prologue"] = [
        *shell_lines(given["cores"]),
        *given.get("job_script_prologue", []),
    ]
    if scheduler.directives:
        ours = [directive.format(logs=given["log_directory"]) for directive in scheduler.directives]
        given["job_extra_directives"] = [*ours, *given.get("job_extra_directives", [])]
    return given


def _check_queue(env: str, queue: str | None) -> None:
    ask = SCHEDULERS[env].names
    names = ask() if queue is not None and ask is not None else None
    # SGE takes a list of queues or patterns, each also with a host behind it; Slurm a list of
    # partitions.
    for one in (queue or "").split(","):
        name = one.partition("@")[0]
        if names and not any(fnmatch.fnmatchcase(known, name) for known in names):
            raise ConfigError(
                f"parallel.options.queue: {env} has no queue {one!r}; {nearest(one, names)}"
            )


def check_size(env: str, script: str) -> None:
    """See that some node could run a job script.

    Raises:
        ConfigError: if none is large enough, with what the largest has.
    """
    ask = SCHEDULERS[env].misfit
    words = ask(script) if ask is not None else None
    if words:
        raise ConfigError(f"parallel.options: {words}; ask for less `cores` or `memory`")


def ask_jobs(env: str, given: Mapping[str, Any]) -> AskJobs | None:
    """How the scheduler is asked about jobs; None if they go to another than would be asked."""
    other_schedd = "submit_command_extra" in given or _dask_config(env, "submit-command-extra")
    other_server = env == "pbs" and "@" in (given.get("queue") or "")
    return None if other_schedd or other_server else SCHEDULERS[env].jobs


def _check_limit(env: str, text: str, limit: str, given: Mapping[str, Any]) -> None:
    """Refuse a walltime with which jobs would wait for ever: Slurm takes them all the same."""
    units, queue = SCHEDULERS[env].units, given.get("queue")
    # Of several queues one may allow it, and so may a quality of service.
    others = "," in (queue or "") or any("qos" in d for d in given.get("job_extra_directives", []))
    try:
        longest = walltime.in_seconds(limit, units)
    except ValueError:  # whatever the scheduler means by it, it will say so
        return
    if not others and walltime.in_seconds(text, units) > longest:
        where = f"the queue {queue!r}" if queue else "the default queue"
        raise ConfigError(
            f"parallel.options.walltime: {text} is more than {where} allows ({limit}); write less, "
            "leave it out to have that, or choose another queue"
        )


def _walltime(env: str, given: Mapping[str, Any]) -> str | None:
    """The job's walltime: the user's, or the limit of its queue."""
    scheduler = SCHEDULERS[env]
    limit = scheduler.limit(given.get("queue")) if scheduler.limit else None
    if "walltime" in given:
        text = walltime.as_text(given["walltime"], scheduler.units)
        if limit not in (None, queues.NO_LIMIT):
            _check_limit(env, text, limit, given)
        return text
    if limit is None:
        raise ConfigError(
            f"parallel.options.walltime: is not set, and {env} does not say how long a job may run"
            f" in {given.get('queue') or 'its queues'}; write one, as in `walltime: "
            f'"{scheduler.example}"`'
        )
    if limit == queues.NO_LIMIT:
        # Slurm's own word for it is 0; elsewhere no directive means no limit.
        return "0" if env == "slurm" else None
    return limit


def _dask_config(env: str, key: str) -> Any:
    import dask

    cluster_class(env)
    return dask.config.get(f"jobqueue.{env}.{key}", None)
