"""How the workers of a `parallel:` block would be started: job scripts, commands, pods."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet3.parallel.backends import gpus, jobqueue, kube_options, local, ssh_options
from espnet3.parallel.backends.job_script import driver_address, job_script
from espnet3.parallel.backends.scheduler_side import listening
from espnet3.parallel.config import ParallelConfig, RunConfig
from espnet3.parallel.config_check import LOCAL


@dataclass(frozen=True)
class Start:
    """How some workers are started.

    Attributes:
        what: it is, for a heading.
        text: the script or command, exactly but for the driver's address and the name of the TLS
            key; "" where there is none.
    """

    what: str
    text: str = ""


def starts(parallel: ParallelConfig, run: RunConfig, logs: Path) -> Iterator[Start]:
    """Yield what would be submitted or called.

    Args:
        parallel: where the workers run.
        run: with a `unit_timeout`, one local worker is a process too.
        logs: where jobs' logs go unless the options say it.

    Raises:
        ConfigError: if the options are wrong, or this host cannot start such workers.
    """
    if parallel.env in LOCAL:
        yield _local(parallel, run)
        return
    options = parallel.options
    listening(options.get("scheduler_options") or {}, options.get("interface"), parallel.secure)
    if parallel.env == "ssh":
        yield from _ssh(parallel, logs)
    elif parallel.env == "kube":
        yield _kube(parallel, logs)
    else:
        yield _batch(parallel, logs)


def _local(parallel: ParallelConfig, run: RunConfig) -> Start:
    if parallel.env == "local" and parallel.n_workers == 1 and run.unit_timeout is None:
        return Start("in this process, without workers")
    variables = local.worker_environment(parallel.n_workers)
    given = ", ".join(f"{name}={value}" for name, value in variables.items())
    what = "1 process" if parallel.n_workers == 1 else f"{parallel.n_workers} processes"
    what += " on this machine" + (f" with {given}" if given else "")
    if parallel.env == "local_gpu":
        devices = ", ".join(dict.fromkeys(gpus.gpus_for(parallel)))
        n = parallel.workers_per_gpu
        what += f"; {'one GPU each' if n == 1 else f'up to {n} on a GPU'}, of {devices}"
    return Start(what)


def _batch(parallel: ParallelConfig, logs: Path) -> Start:
    env, n = parallel.env, parallel.n_workers
    jobqueue.check_commands(env)
    script = job_script(env, parallel.options, logs, parallel.secure)
    command = jobqueue.cluster_class(env).job_cls.submit_command.split()[0]
    how = f"its #OAR lines as options of {command}" if env == "oar" else f"by {command}"
    others = _likewise([f"{env}-{i}" for i in range(1, n)])
    return Start(f"job script of worker {env}-0, submitted {how}{others}", script.rstrip("\n"))


def _ssh(parallel: ParallelConfig, logs: Path) -> Iterator[Start]:
    from espnet3.parallel.backends.ssh import ssh_command
    from espnet3.parallel.backends.ssh_options import with_defaults

    ssh_options.check(parallel.options)
    options = with_defaults(parallel.options, logs)
    hosts, driver = options["hosts"], driver_address(parallel.secure)
    for number, host in enumerate(hosts[: parallel.n_workers]):
        names = [f"ssh-{i}" for i in range(number, parallel.n_workers, len(hosts))]
        what = f"command that starts worker {names[0]} on {host}{_likewise(names[1:])}"
        yield Start(what, shlex.join(ssh_command(host, driver, names[0], options)))


def _kube(parallel: ParallelConfig, logs: Path) -> Start:
    import yaml

    from espnet3.parallel.backends.kube_pod import worker_pod

    kube_options.check(parallel.options)
    options = kube_options.with_defaults(parallel.options, logs)
    driver = driver_address(parallel.secure)
    cluster = "espnet3-<cluster>"
    name, *others = [f"{cluster}-{i}" for i in range(parallel.n_workers)]
    pod = worker_pod(name, driver, options, cluster)
    what = f"pod of worker {name}, where <cluster> is 8 digits{_likewise(others)}"
    return Start(what, yaml.safe_dump(pod, sort_keys=False, default_flow_style=False).rstrip("\n"))


def _likewise(names: Sequence[str]) -> str:
    if not names:
        return ""
    between = ", " if len(names) < 3 else ", ..., "
    return f"; likewise {names[0]}" + (f"{between}{names[-1]}" if names[1:] else "")
