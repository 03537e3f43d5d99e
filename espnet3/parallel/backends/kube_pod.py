"""The pod of one worker, as it is given to Kubernetes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet3.parallel.backends.environment import variables
from espnet3.parallel.backends.jobqueue import ENTRY
from espnet3.parallel.backends.kube_options import in_bytes
from espnet3.parallel.backends.kube_template import worker_container

LABELS = {"app.kubernetes.io/name": "espnet3-worker"}
"""Of all pods and secrets that this package makes."""

CLUSTER = "espnet3/cluster"
"""Label with the name of the cluster that a pod or secret belongs to."""

GPU = "nvidia.com/gpu"

KEYS = Path("/etc/espnet3")
"""Where the secret with the TLS credentials is in a pod."""

CERTIFICATE, KEY = "certificate.pem", "key.pem"
"""Its files."""


def metadata(name: str, cluster: str, owner: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of a pod or secret: labels by which it is found, and whose end is its own."""
    made: dict[str, Any] = {"name": name, "labels": {**LABELS, CLUSTER: cluster}}
    return {**made, "ownerReferences": [owner]} if owner is not None else made


def worker_pod(
    name: str,
    scheduler: str,
    options: Mapping[str, Any],
    cluster: str,
    owner: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A pod with one worker of that name, laid over the user's template.

    Args:
        name: of the pod and of its worker.
        scheduler: address of the driver's Dask scheduler.
        options: of `env: kube`, as `with_defaults` gives them.
        cluster: name of the cluster, for its label, and of the secret with its TLS credentials.
        owner: reference to the driver's own pod, if it runs in one.
    """
    template = options["pod_template"]
    given, spec = template.get("metadata") or {}, template.get("spec") or {}
    ours = metadata(name, cluster, owner)
    ours["labels"] = {**(given.get("labels") or {}), **ours["labels"]}
    claims = {f"claim-{i}": item for i, item in enumerate(options["volumes"].items())}
    volumes = [
        {"name": volume, "persistentVolumeClaim": {"claimName": claim}}
        for volume, (claim, _) in claims.items()
    ]
    mounts = [{"name": volume, "mountPath": path} for volume, (_, path) in claims.items()]
    if scheduler.startswith("tls://"):
        volumes.append({"name": KEYS.name, "secret": {"secretName": cluster}})
        mounts.append({"name": KEYS.name, "mountPath": str(KEYS), "readOnly": True})
    container = _container(worker_container(template), name, scheduler, options, mounts)
    others = [{**one, "resources": _resources(one)} for one in (spec.get("containers") or [])[1:]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**given, **ours},
        "spec": {
            # Workers need nothing of Kubernetes, and a model's code is not to have it.
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # What workers write is the driver's to move and to delete.
            "securityContext": {"runAsUser": os.getuid(), "runAsGroup": os.getgid()},
            **spec,
            "restartPolicy": "Never",
            "containers": [container, *others],
            "volumes": [*(spec.get("volumes") or []), *volumes],
        },
    }


def _container(
    given: Mapping[str, Any],
    name: str,
    scheduler: str,
    options: Mapping[str, Any],
    mounts: list[dict[str, Any]],
) -> dict[str, Any]:
    memory = str(in_bytes(options["memory"]))
    # The nanny ends a worker a little below it; else the kernel would end the whole pod.
    command = [
        *(options["python"], "-m", ENTRY, scheduler, "--name", name, "--memory-limit", memory),
        *("--death-timeout", str(options["death_timeout"])),
        *("--local-directory", options["local_directory"]),
    ]
    if scheduler.startswith("tls://"):
        certificate = str(KEYS / CERTIFICATE)  # which is its own authority
        command += ["--tls-ca-file", certificate, "--tls-cert", certificate]
        command += ["--tls-key", str(KEYS / KEY)]
    command += options["worker_extra_args"]
    env = given.get("env") or []
    theirs = {variable.get("name") for variable in env}
    ours = [
        {"name": key, "value": value}
        for key, value in variables(options["cores"]).items()
        if key not in theirs
    ]
    amounts = {"cpu": str(options["cores"]), "memory": memory}
    if options["gpus"]:
        amounts[GPU] = str(options["gpus"])
    resources = _resources(given)
    # Requests and limits alike: such pods are the last to be evicted.
    both = {key: {**(resources.get(key) or {}), **amounts} for key in ("requests", "limits")}
    return {
        "name": "worker",
        **given,
        **({"image": options["image"]} if options["image"] else {}),
        "command": command,
        "workingDir": os.getcwd(),
        "env": [*ours, *env],
        "resources": {**resources, **both},
        "volumeMounts": [*(given.get("volumeMounts") or []), *mounts],
    }


def _resources(container: Mapping[str, Any]) -> dict[str, Any]:
    """Amounts as texts: the client library, unlike `kubectl`, takes no `cpu: 2`."""
    return {
        key: {name: str(amount) for name, amount in value.items()}
        if key in ("requests", "limits") and isinstance(value, dict)
        else value
        for key, value in (container.get("resources") or {}).items()
    }
