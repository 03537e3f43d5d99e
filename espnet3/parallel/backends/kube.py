"""`env: kube`: each worker is a pod of its own.

The operator of dask-kubernetes runs Dask's scheduler in a pod, where the driver could not deal
leases. Here the scheduler is the driver's, and plain pods run the workers.
"""

import asyncio
import itertools
import logging
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from distributed import Scheduler
from distributed.deploy.spec import ProcessInterface, SpecCluster

from espnet3.errors import RunStopped
from espnet3.parallel.backends.bring_up import closed_on_error, submit_first
from espnet3.parallel.backends.job import AT_ONCE, Submissions
from espnet3.parallel.backends.job_states import JobState
from espnet3.parallel.backends.kube_api import Pods, state_of
from espnet3.parallel.backends.kube_options import with_defaults
from espnet3.parallel.backends.kube_pod import CERTIFICATE, CLUSTER, KEY, worker_pod
from espnet3.parallel.backends.scheduler_side import listening
from espnet3.parallel.backends.watch import Watch
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.credentials import Credentials, make_credentials

logger = logging.getLogger(__name__)


class WorkerPod(ProcessInterface):
    """A worker in a pod."""

    def __init__(self, scheduler: str, name: str, cluster: "Cluster") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._scheduler = scheduler
        self._name = name
        self._cluster_ = cluster

    async def start(self) -> None:
        """Create the pod; its worker comes by itself."""
        await asyncio.to_thread(self._cluster_.create, self._name, self._scheduler)
        await super().start()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Delete the pod, which tells the worker to leave."""
        await asyncio.to_thread(self._cluster_.delete, self._name)
        await super().close()  # type: ignore[no-untyped-call]


class Cluster(SpecCluster):
    """Workers in pods of one namespace."""

    def __init__(
        self,
        options: Mapping[str, Any],
        pods: Pods,
        submissions: Submissions,
        credentials: Credentials | None,
    ) -> None:
        self.watch: Watch | None = None
        self.log_directory = options["log_directory"]
        self._options = options
        self._pods = pods
        self._submissions = submissions
        self._count = itertools.count()
        self._closing = False
        self._left: dict[str, str] = {}
        self._has_secret = False
        security = None if credentials is None else credentials.security()
        scheduler = listening(options["scheduler_options"], None, security is not None)
        super().__init__(
            scheduler={"cls": Scheduler, "options": {**scheduler, "security": security}},
            security=security,
            worker={"cls": WorkerPod, "options": {}},
            name=pods.cluster,
        )  # type: ignore[no-untyped-call]

    def new_worker_spec(self) -> dict[str, Any]:
        """Called by Dask for each worker that is missing."""
        name = f"{self._pods.cluster}-{next(self._count)}"
        return {name: {"cls": WorkerPod, "options": {"cluster": self}}}

    def give(self, credentials: Credentials) -> None:
        """Put credentials into a secret, which the pods see and nothing else names.

        Raises:
            RunStopped: if Kubernetes refuses it.
        """
        self._has_secret = True
        refusal = self._pods.create_secret(
            {CERTIFICATE: credentials.certificate, KEY: credentials.key}
        )
        if refusal:
            self._has_secret = False
            raise RunStopped(f"kube refuses the secret with the TLS credentials: {refusal}")

    def create(self, name: str, scheduler: str) -> None:
        """Create the pod of a worker."""
        pod = worker_pod(name, scheduler, self._options, self._pods.cluster, self._pods.owner)
        refusal = self._pods.create(pod)
        self._submissions.answer(name, None if refusal else name, refusal)

    def delete(self, name: str) -> None:
        """Delete the pod of a worker; what it said is kept if another follows it."""
        if not self._closing:
            self.logs_of(name)
        # Even one that was refused: the answer may have been lost on its way. When all end and the
        # server is away, to ask it for each would take long.
        words = (self._closing and self._pods.away) or self._pods.delete(name)
        if words:
            self._left[name] = words
        else:
            self._left.pop(name, None)

    def jobs(self, job_ids: Sequence[str]) -> dict[str, JobState] | None:
        """See `AskJobs`."""
        pods = self._pods.all()
        if pods is None:
            return None
        states = {pod.metadata.name: state_of(pod) for pod in pods}
        found = ((job_id, states.get(job_id)) for job_id in job_ids)
        return {job_id: state for job_id, state in found if state is not None}

    def logs_of(self, job_id: str) -> list[Path]:
        """Where what a pod said is written now, while Kubernetes knows it."""
        said = self._pods.log(job_id)
        path = Path(self.log_directory) / f"kube.{job_id}.log"
        if said:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(said + "\n")
        return [path] if path.exists() else []

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Delete pods without letting their workers finish anything."""
        self._delete_secret()  # this process may end without more ado
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: self._pods.delete(name, at_once=True), job_ids))

    def close(self, timeout: float | None = None) -> Any:
        """Delete all pods."""
        self._closing, self._pods.away = True, ""
        if self.watch is not None:
            self.watch.stop()
        for name in list(self._left):
            self.delete(name)
        try:
            return super().close(timeout)
        finally:
            self._delete_secret()
            if self._left:
                logger.error(
                    "%d pods or secrets could not be deleted: %s; try `%s`",
                    len(self._left), next(iter(self._left.values())), self.removal,
                )  # fmt: skip
                self._left = {}

    @property
    def removal(self) -> str:
        """The command that removes all that is left of this cluster."""
        return (
            f"kubectl delete pods,secrets --namespace {self._pods.namespace} "
            f"--selector {CLUSTER}={self._pods.cluster}"
        )

    def _delete_secret(self) -> None:
        if self._has_secret:
            self._has_secret = False
            words = self._pods.away or self._pods.delete_secret()
            if words:
                self._left[self._pods.cluster] = words


def make_cluster(config: ParallelConfig, logs: Path) -> Cluster:
    """Create the pods of all workers; return as soon as Kubernetes has accepted one.

    Raises:
        ConfigError: if no Kubernetes is to be found.
        RunStopped: if it refuses the pods or the secret, in its own words.
    """
    options = with_defaults(config.options, logs)
    submissions = Submissions()
    pods = Pods(options, f"espnet3-{secrets.token_hex(4)}")
    credentials = make_credentials() if config.secure else None
    cluster = Cluster(options, pods, submissions, credentials)
    with closed_on_error(cluster):
        if credentials is not None:
            cluster.give(credentials)
        cluster.watch = Watch(cluster, cluster.jobs, submissions, config)
        submit_first(cluster, submissions, config, "pods")
    logger.info(
        "pods of %d workers are created; should any outlive this run: `%s`",
        config.n_at_first, cluster.removal,
    )  # fmt: skip
    return cluster
