"""What may stand in ``parallel:`` and ``run:``, as tables, and the sentences that say what may not.

Every function returns problems, one sentence each, that start with the key they are about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from espnet3.parallel.wording import nearest, shown

ENVS = (
    "local",
    "local_gpu",
    "slurm",
    "pbs",
    "sge",
    "lsf",
    "htcondor",
    "moab",
    "oar",
    "ssh",
    "kube",
)
"""Every env by name."""

LOCAL = ("local", "local_gpu")
"""Envs whose workers are processes of this machine, in a LocalCluster."""

UNDER_OPTIONS = "a keyword of the cluster class: put it under parallel.options"
_N_WORKERS = "write parallel.n_workers, the number of worker processes"
_BACKEND = (
    "write parallel.env (local, slurm, ...) and, under parallel.options, what the command passed"
)
_GPU = "write parallel.env: local_gpu (one worker per GPU, parallel.n_workers of them)"
_SHARED = "write parallel.workers_per_gpu"
REPLACED: dict[str, str] = {
    **dict.fromkeys(
        ("nj", "inference_nj", "num_workers", "nworkers", "num_jobs", "n_jobs", "njobs"), _N_WORKERS
    ),
    "workers": _N_WORKERS,
    **dict.fromkeys(("train_cmd", "decode_cmd", "cuda_cmd", "cmd"), _BACKEND),
    **dict.fromkeys(("backend", "executor", "cluster"), "write parallel.env"),
    **dict.fromkeys(("ngpu", "gpu_inference", "num_gpus"), _GPU),
    **dict.fromkeys(
        ("queue", "cores", "memory", "walltime", "account", "project", "memory_limit", "processes"),
        UNDER_OPTIONS,
    ),
    **dict.fromkeys(("jobs_per_gpu", "processes_per_gpu", "n_workers_per_gpu"), _SHARED),
    "batch_size": "not part of these blocks: it is an argument of the runner",
}
"""Keys of ESPnet2 and of neighbouring tools, and what is written instead."""

MISPLACED: dict[str, str] = {
    **{
        key: f"is not read here; {REPLACED[key]}"
        for key in (
            *("nj", "inference_nj", "ngpu", "gpu_inference", "n_jobs", "num_workers"),
            *("train_cmd", "decode_cmd", "cuda_cmd"),
        )
    },
    "n_workers": "is not read here; it belongs in parallel:",
    **dict.fromkeys(
        (
            *("on_error", "max_failures", "max_kills", "unit_timeout", "lease_seconds"),
            *("resume", "accept_changes", "allow_overwrite_lock", "batch_seconds"),
        ),
        "is not read here; it belongs in run:",
    ),
}
"""Keys on the top level of a recipe's config that would be ignored there, and what to do."""

Check = Callable[[Any], bool]


def _integer(least: int) -> Check:
    return lambda value: type(value) is int and value >= least


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


ADAPTIVE_KEYS = ("minimum", "maximum")

ON_ERROR = ("finish", "skip", "raise")
RULES: dict[str, tuple[str, Check]] = {
    "env": ("the name of a backend", lambda value: isinstance(value, str)),
    "n_workers": ("a whole number, 1 or more", _integer(1)),
    "workers_per_gpu": ("a whole number, 1 or more", _integer(1)),
    "options": ("a block of keys", _or_null(_mapping)),
    "worker_start_timeout": ("a number of seconds above 0, or null", _or_null(_seconds)),
    "adaptive": ("a block of keys, or null", _or_null(_mapping)),
    "security": ("true, false or null", _or_null(_boolean)),
    "on_error": (
        "one of " + ", ".join(ON_ERROR),
        lambda value: isinstance(value, str) and value in ON_ERROR,
    ),
    "max_failures": ("a whole number, 0 or more, or null", _or_null(_integer(0))),
    "max_kills": ("a whole number, 1 or more", _integer(1)),
    "unit_timeout": ("a number of seconds above 0, or null", _or_null(_seconds)),
    "lease_seconds": ("a number of seconds above 0", _seconds),
    "prefetch": ("true, false or null", _or_null(_boolean)),
    "resume": ("true or false", _boolean),
    "accept_changes": ("true or false", _boolean),
    "allow_overwrite_lock": ("true or false", _boolean),
    "limit": ("a whole number, 1 or more, or null", _or_null(_integer(1))),
    "batch_seconds": ("a number of seconds above 0, or null", _or_null(_seconds)),
}
"""What each key must be, in words and as a check."""


def unknown_keys(
    block: str, keys: Iterable[Any], valid: Sequence[str], elsewhere: Collection[str] = ()
) -> list[str]:
    """Refuse keys that a block does not have."""
    problems = []
    for key in keys:
        if key in REPLACED:
            problems.append(f"{block}.{key}: no such key; {REPLACED[key]}")
        elif key in elsewhere:
            problems.append(f"{block}.{key}: belongs in parallel:, not in {block}:")
        else:
            problems.append(f"{block}.{key}: unknown key; {nearest(str(key), valid)}")
    return problems


def values(block: str, keys: Mapping[str, Any]) -> list[str]:
    """Refuse values of known keys that are of the wrong kind."""
    problems = []
    for key, value in keys.items():
        must_be, check = RULES[key]
        if not check(value):
            problems.append(f"{block}.{key}: must be {must_be}, not {shown(value)}{_hint(value)}")
        elif key == "env":
            problems += _env(block, value)
    return problems


def _hint(value: Any) -> str:
    # "8" is what quotes, or an environment variable read by a resolver, make of 8.
    if isinstance(value, str) and value.strip().lstrip("-").replace(".", "", 1).isdigit():
        return "; take the quotes away, or use ${oc.decode:...} around a variable"
    return ""


def _env(block: str, env: str) -> list[str]:
    return [] if env in ENVS else [f"{block}.env: unknown env {env!r}; {nearest(env, ENVS)}"]


def report(source: str, problems: Sequence[str]) -> str:
    """One message for all problems of a config."""
    if len(problems) == 1:
        return f"{source}: {problems[0]}"
    return f"{source}: {len(problems)} problems\n" + "\n".join(f"  - {line}" for line in problems)


def env_options(env: Any, options: Any) -> list[str]:
    """Refuse options that the cluster class behind ``env`` does not have, or that are ours to set.

    The cluster class is imported only where there are options to check.
    """
    return _cluster_options(env, options) + _scheduler_options(options)


def _scheduler_options(options: Any) -> list[str]:
    """Refuse to have the connections of Dask's scheduler changed behind `security`."""
    return [
        f"parallel.options.{block}.{key}: parallel.security decides it"
        for block in ("scheduler_options", "scheduler_kwargs")
        if isinstance(options, dict) and isinstance(options.get(block), dict)
        for key in ("protocol", "security")
        if key in options[block]
    ]


def _cluster_options(env: Any, options: Any) -> list[str]:
    if env in ENVS and env not in LOCAL:
        from espnet3.parallel.backends import jobqueue
        from espnet3.parallel.backends.modules import BACKENDS

        if not _or_null(_mapping)(options):
            return []
        if env in BACKENDS:
            return BACKENDS[env].option_problems(options or {})
        return jobqueue.option_problems(env, options or {})
    if env not in LOCAL or not options or not _mapping(options):
        return []  # a wrong env or a wrong kind is reported by `values`
    from espnet3.parallel.backends import local_options

    return local_options.option_problems(options)


def adaptive(env: Any, where: Mapping[str, Any]) -> list[str]:
    """Refuse bounds of the number of workers that mean nothing."""
    block = where.get("adaptive")
    if not block or not _mapping(block):
        return []  # a wrong kind is reported by `values`
    name = "parallel.adaptive"
    if env in LOCAL:
        return [f"{name}: env: {env} has nobody who would wait for its workers; leave it out"]
    problems = [
        f"{name}.{key}: unknown key; {nearest(key, ADAPTIVE_KEYS)}"
        for key in block
        if key not in ADAPTIVE_KEYS
    ]
    for key, least in (("minimum", 0), ("maximum", 1)):
        if key in block and not _integer(least)(block[key]):
            problems.append(
                f"{name}.{key}: must be a whole number, {least} or more, not {shown(block[key])}"
            )
    if problems or not _integer(1)(where.get("n_workers", 1)):
        return problems
    if "maximum" in block and where.get("n_workers", block["maximum"]) != block["maximum"]:
        return [f"{name}.maximum: parallel.n_workers says another number; leave one of them out"]
    least, most = block.get("minimum", 0), most_workers(where)
    if least > most:
        return [f"{name}.minimum: {least} is more than the {most} workers that there may be"]
    return []


def gpu_sharing(env: Any, where: Mapping[str, Any]) -> list[str]:
    """Refuse `workers_per_gpu` where nobody would obey it."""
    n = where.get("workers_per_gpu", 1)
    if env == "local_gpu" or env not in ENVS or not _integer(2)(n):
        return []  # a wrong env or a wrong kind is reported by `values`
    name = f"parallel.workers_per_gpu: {n}"
    if env == "local":
        return [f"{name} is for env: local_gpu; with env: local all workers see the same GPUs"]
    return [
        f"{name} is for env: local_gpu; with env: {env} one job is one worker, which has the GPUs "
        "of its job: ask the scheduler for a share of a GPU (Slurm: --gres=shard:1, or a MIG slice)"
    ]


def most_workers(where: Mapping[str, Any]) -> int:
    """How many workers an adaptive block allows."""
    most: int = where["adaptive"].get("maximum", where.get("n_workers", 1))
    return most
