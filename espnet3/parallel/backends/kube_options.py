"""What may stand in `options` for `env: kube`."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet3.errors import ConfigError
from espnet3.parallel.backends.kube_template import read_template, worker_container
from espnet3.parallel.backends.options import (
    BLOCK,
    POSITIVE,
    TEXT,
    TEXTS,
    Kind,
    is_text,
    kind_problems,
    laid_over,
)

DEFAULTS: dict[str, Any] = {
    "image": None,
    "memory": None,
    "cores": 1,
    "gpus": 0,
    "volumes": {},
    "pod_template": None,
    "namespace": None,
    "kubeconfig": None,
    "context": None,
    # The image's own: the driver's path means nothing there.
    "python": "python",
    "scheduler_options": {},
    "worker_extra_args": [],
    "local_directory": "/tmp",
    "log_directory": None,
    "death_timeout": 120,
}

_IN_TEMPLATE = "put it into pod_template, in Kubernetes' own words"
ELSEWHERE: dict[str, str] = {
    "n_workers": "set parallel.n_workers instead",
    "security": "set parallel.security instead",
    "job_script_prologue": "no shell reads it; put `env` into pod_template",
    "walltime": "pods have none",
    "queue": "set namespace instead",
    **dict.fromkeys(
        (
            *("env", "labels", "annotations", "node_selector", "nodeSelector", "tolerations"),
            *("service_account", "serviceAccountName", "image_pull_secrets", "imagePullSecrets"),
            *("volume_mounts", "volumeMounts", "resources", "affinity"),
        ),
        _IN_TEMPLATE,
    ),
}
"""What is looked for among these options, and where it belongs."""


def _claims(value: Any) -> bool:
    return isinstance(value, dict) and all(
        is_text(claim) and is_text(path) and path.startswith("/") for claim, path in value.items()
    )


def _bytes(value: Any) -> bool:
    try:
        return in_bytes(value) > 0
    except (TypeError, ValueError):
        return False


_KINDS: dict[str, Kind] = {
    "image": ("the name of a container image", is_text),
    "memory": ("an amount of memory, as in 8GB", _bytes),
    "cores": POSITIVE,
    "gpus": ("a whole number, 0 or more", lambda value: type(value) is int and value >= 0),
    "volumes": ("a block of `name of a claim: /absolute/path`", _claims),
    "pod_template": (
        "a block of keys, or the path of a YAML file",
        lambda value: isinstance(value, dict) or is_text(value),
    ),
    "scheduler_options": BLOCK,
    "worker_extra_args": TEXTS,
    **dict.fromkeys(("namespace", "kubeconfig", "context", "python"), TEXT),
}


def option_problems(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options, one sentence each."""
    problems = kind_problems("kube", options, DEFAULTS, _KINDS, ELSEWHERE)
    if options.get("memory") is None:
        problems.append(
            "parallel.options.memory: is not set; it is what one pod may use, as in `memory: 8GB`"
        )
    if problems:
        return problems
    try:
        template = read_template(options.get("pod_template"))
    except ValueError as error:
        return [f"parallel.options.pod_template: {error}"]
    if options.get("image") is None and not worker_container(template).get("image"):
        problems.append(
            "parallel.options.image: is not set; it is a container image with this package in it"
        )
    return problems


def check(options: Mapping[str, Any]) -> None:
    """See that the options are right and that there is a client library.

    Raises:
        ConfigError: if not.
    """
    problems = option_problems(options)
    if problems:
        raise ConfigError("; ".join(problems))
    if importlib.util.find_spec("kubernetes") is None:
        raise ConfigError(
            "parallel.env: kube needs the package kubernetes: pip install 'espnet3[kube]'"
        )


def with_defaults(options: Mapping[str, Any], logs: Path) -> dict[str, Any]:
    """Checked options laid over ours; what pods say goes to `logs` unless they say otherwise."""
    given = laid_over(DEFAULTS, options, logs)
    return {**given, "pod_template": read_template(given["pod_template"])}


def in_bytes(memory: Any) -> int:
    """An amount of memory in bytes: 8GB as well as Kubernetes' 8G and 8Gi.

    Raises:
        TypeError, ValueError: if it is none.
    """
    from dask.utils import parse_bytes

    return int(parse_bytes(memory))
