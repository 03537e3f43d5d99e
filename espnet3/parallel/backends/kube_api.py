"""What the driver asks of Kubernetes, by the official client library, and how it reads answers."""

import json
import logging
import os
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import OpenApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from espnet3.errors import ConfigError
from espnet3.parallel.backends.job_states import JobState
from espnet3.parallel.backends.kube_pod import CLUSTER, metadata

logger = logging.getLogger(__name__)

ANSWER_LIMIT = 30.0  # seconds that the API server may take to answer
DELETE_LIMIT = 10.0  # seconds that it may take to begin to delete something
LOG_LINES = 1000  # of a pod that are kept

_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

# ValueError: the client library, too, checks what it is given.
_FAILURES = (OpenApiException, HTTPError, OSError, ValueError)


class Pods:
    """The pods of one cluster of workers. Methods may be called from any thread.

    Attributes:
        namespace: that they are in.
        cluster: name of the cluster, by which they are labelled.
        owner: reference to the driver's own pod, if it runs in one in the same namespace.
        away: why the server could not be reached the last time; "" if it was.
    """

    def __init__(self, options: Mapping[str, Any], cluster: str) -> None:
        self._core, namespace = _connect(options["kubeconfig"], options["context"])
        self.namespace = options["namespace"] or namespace
        self.cluster = cluster
        self.owner = _own_pod(self._core, self.namespace)
        self.away = ""

    def create(self, pod: Mapping[str, Any]) -> str:
        """Create a pod; what Kubernetes says if it refuses, else ""."""
        refusal = self._refusal(
            self._core.create_namespaced_pod,
            self.namespace,
            pod,
            field_validation="Strict",
            _request_timeout=ANSWER_LIMIT,
        )
        # Every pod has another name, but the reason is to be told once.
        return refusal.replace(pod["metadata"]["name"], f"{self.cluster}-*")

    def delete(self, name: str, at_once: bool = False) -> str:
        """Delete a pod if it is there; what Kubernetes says if it refuses, else ""."""
        grace = {"grace_period_seconds": 0} if at_once else {}
        return self._refusal(
            self._core.delete_namespaced_pod,
            name,
            self.namespace,
            missing_ok=True,
            _request_timeout=DELETE_LIMIT,
            **grace,
        )

    def create_secret(self, texts: Mapping[str, str]) -> str:
        """Create the secret of the cluster, with its name; as `create`."""
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata(self.cluster, self.cluster, self.owner),
            "stringData": dict(texts),
            "immutable": True,
        }
        return self._refusal(
            self._core.create_namespaced_secret,
            self.namespace,
            secret,
            _request_timeout=ANSWER_LIMIT,
        )

    def delete_secret(self) -> str:
        """Delete it if it is there; as `delete`."""
        return self._refusal(
            self._core.delete_namespaced_secret,
            self.cluster,
            self.namespace,
            missing_ok=True,
            _request_timeout=DELETE_LIMIT,
        )

    def all(self) -> list[Any] | None:
        """All that are listed, whether they run or have ended; None if nobody could say."""
        try:
            listed = self._core.list_namespaced_pod(
                self.namespace,
                label_selector=f"{CLUSTER}={self.cluster}",
                _request_timeout=ANSWER_LIMIT,
            )
        except _FAILURES as error:
            logger.debug("pods cannot be listed: %s", words(error))
            return None
        return list(listed.items)

    def log(self, name: str) -> str:
        """What a worker said and how its pod ended, as far as Kubernetes still knows it."""
        parts = []
        try:
            pod = self._core.read_namespaced_pod(
                name, self.namespace, _request_timeout=ANSWER_LIMIT
            )
            parts.append(end_of(pod))
            said = self._core.read_namespaced_pod_log(
                name,
                self.namespace,
                container=pod.spec.containers[0].name,
                tail_lines=LOG_LINES,
                _request_timeout=ANSWER_LIMIT,
            )
            parts.insert(0, said or "")
        except _FAILURES as error:
            logger.debug("the log of pod %s cannot be read: %s", name, words(error))
        return "\n".join(part.rstrip("\n") for part in parts if part)

    def _refusal(
        self, request: Callable[..., Any], *arguments: Any, missing_ok: bool = False, **options: Any
    ) -> str:
        """What Kubernetes says if it refuses a request, else ""."""
        self.away = ""
        try:
            request(*arguments, **options)
        except _FAILURES as error:
            if isinstance(error, HTTPError | OSError):
                self.away = words(error)
            is_missing = getattr(error, "status", None) == HTTPStatus.NOT_FOUND
            return "" if missing_ok and is_missing else words(error)
        return ""


def reach(options: Mapping[str, Any]) -> str:
    """See that pods may be listed; say where.

    Args:
        options: checked, with defaults.

    Raises:
        ConfigError: if there is no cluster to be found, or it does not answer or refuses.
    """
    core, namespace = _connect(options["kubeconfig"], options["context"])
    namespace = options["namespace"] or namespace
    try:
        core.list_namespaced_pod(namespace, limit=1, _request_timeout=ANSWER_LIMIT)
    except _FAILURES as error:
        where = core.api_client.configuration.host
        raise ConfigError(f"{where}: pods of {namespace} not listed: {words(error)}") from error
    return f"{core.api_client.configuration.host} lists the pods of namespace {namespace}"


def words(error: BaseException) -> str:
    """What Kubernetes said, without what the client library wraps around it."""
    try:
        return str(json.loads(getattr(error, "body", None) or "")["message"])
    except (ValueError, KeyError, TypeError):
        status, reason = getattr(error, "status", None), getattr(error, "reason", None)
        return f"{status} {reason}" if status else str(reason or error).strip()


def state_of(pod: Any) -> JobState | None:
    """A pod as a job; None if it is to be deleted."""
    status = pod.status
    worker = _worker_status(pod)
    ended = worker.state.terminated if worker else None
    if status.phase in ("Succeeded", "Failed") or ended:
        word, reason = status.phase.lower(), status.reason or (ended.reason if ended else "")
        oom = ended is not None and ended.reason == "OOMKilled"
        return JobState(False, word, reason or "", over=True, out_of_memory=oom)
    if pod.metadata.deletion_timestamp is not None:  # for long, if its node has been lost
        return None
    if status.phase == "Running":
        return JobState(False, "running")
    return JobState(True, (status.phase or "pending").lower(), _why_it_waits(status))


def end_of(pod: Any) -> str:
    """How a pod ended, in Kubernetes' words; "" if it has not."""
    worker = _worker_status(pod)
    ended = worker.state.terminated if worker else None
    parts = [
        *((pod.status.reason, pod.status.message) if pod.status.reason else ()),
        *((ended.reason, ended.message, f"exit code {ended.exit_code}") if ended else ()),
    ]
    told = ", ".join(part for part in parts if part)
    return f"pod {pod.metadata.name}: {told}" if told else ""


def _worker_status(pod: Any) -> Any:
    name = pod.spec.containers[0].name
    statuses = pod.status.container_statuses or []
    found = (status for status in statuses if status.name == name and status.state is not None)
    return next(found, None)


def _why_it_waits(status: Any) -> str:
    """The image, a volume, or that no node has room."""
    for container in (*(status.init_container_statuses or ()), *(status.container_statuses or ())):
        waiting = container.state.waiting if container.state else None
        if waiting is not None and waiting.reason != "PodInitializing":
            return _joined(waiting.reason, waiting.message)
    for condition in status.conditions or ():
        if condition.type == "PodScheduled" and condition.status != "True":
            return _joined(condition.reason, condition.message)
    return ""


def _joined(reason: str | None, message: str | None) -> str:
    return ": ".join(part for part in (reason, message) if part)


def _connect(file: str | None, context: str | None) -> tuple[Any, str]:
    """Find the cluster as `kubectl` does: by a kubeconfig, or as the pod that this runs in.

    Returns:
        The API, and the namespace that is meant if none is named.

    Raises:
        ConfigError: if there is no cluster to be found.
    """
    file = file or os.environ.get("KUBECONFIG") or "~/.kube/config"
    paths = [os.path.expanduser(path) for path in file.split(os.pathsep) if path]
    try:
        if context is None and not any(map(os.path.exists, paths)) and _is_in_pod():
            configuration = client.Configuration()
            config.load_incluster_config(client_configuration=configuration)
            return client.CoreV1Api(client.ApiClient(configuration)), _own_namespace() or "default"
        file = os.pathsep.join(paths)
        contexts, active = config.list_kube_config_contexts(file)
        core = client.CoreV1Api(config.new_client_from_config(file, context))
    except (ConfigException, *_FAILURES) as error:
        raise ConfigError(
            f"parallel.env: kube finds no cluster: {error}; does `kubectl get pods` work here? See "
            "parallel.options.kubeconfig and context"
        ) from error
    chosen = next((one for one in contexts if one["name"] == context), active)
    return core, chosen["context"].get("namespace") or "default"


def _is_in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ


def _own_namespace() -> str | None:
    return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else None


def _own_pod(core: Any, namespace: str) -> dict[str, Any] | None:
    """A reference to the pod that this process runs in: when it goes, Kubernetes deletes ours."""
    if _own_namespace() != namespace:
        return None
    try:
        pod = core.read_namespaced_pod(
            socket.gethostname(), namespace, _request_timeout=ANSWER_LIMIT
        )
    except _FAILURES as error:
        logger.debug("the driver's own pod cannot be read: %s", words(error))
        return None
    return {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}
