"""`env: ssh`: each worker is a process that `ssh` starts on one of the hosts.

Dask's SSHCluster puts its scheduler on a host of its own, where the driver could not deal leases,
and cannot protect it. Here the scheduler is the driver's, and OpenSSH's own `ssh` command
runs the workers, with the user's configuration, keys and agent.
"""

import asyncio
import itertools
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed import Scheduler
from distributed.deploy.spec import ProcessInterface, SpecCluster

from espnet3.parallel.backends.bring_up import closed_on_error, submit_first
from espnet3.parallel.backends.environment import shell_lines
from espnet3.parallel.backends.job import Submissions
from espnet3.parallel.backends.job_states import JobState
from espnet3.parallel.backends.jobqueue import ENTRY
from espnet3.parallel.backends.scheduler_side import listening
from espnet3.parallel.backends.ssh_options import with_defaults
from espnet3.parallel.backends.watch import Watch
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.credentials import Credentials, make_credentials

logger = logging.getLogger(__name__)

LEAVE_LIMIT = 10.0  # seconds that a worker has to leave when the cluster closes


class Remote(ProcessInterface):
    """A worker on another host: as long as `ssh` runs, it does."""

    def __init__(
        self, scheduler: str, name: str, host: str, options: Mapping[str, Any], cluster: Any
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.host = host
        self._command = ssh_command(host, scheduler, name, options)
        self._credentials = cluster.credentials
        self._name = name
        self._cluster_ = cluster
        self._log = log_of(options, name)
        self._ssh: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start `ssh`; whether it gets through is seen later, by the worker that comes."""
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("ab") as log:
                self._ssh = await asyncio.create_subprocess_exec(
                    *self._command, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log
                )
        except OSError as error:  # raised here, it would go to a log that nobody reads
            self._cluster_.refused(self._name, f"ssh cannot be started for {self.host}: {error}")
            await super().start()  # type: ignore[no-untyped-call]
            return
        if self._credentials is not None:  # where no other user sees them, as on the command line
            self._ssh.stdin.write(self._credentials.as_line())  # type: ignore[union-attr]
        self._cluster_.started(self._name, self.host, self._ssh)
        await super().start()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Hang up, which tells the worker to leave; end `ssh` if that takes too long."""
        if self._ssh is not None and self._ssh.returncode is None:
            with suppress(OSError):
                self._ssh.stdin.close()  # type: ignore[union-attr]
            try:
                await asyncio.wait_for(self._ssh.wait(), LEAVE_LIMIT)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    self._ssh.kill()
        await super().close()  # type: ignore[no-untyped-call]


class Cluster(SpecCluster):
    """Workers on hosts that `ssh` reaches; a new one goes where the fewest are."""

    def __init__(
        self,
        options: Mapping[str, Any],
        submissions: Submissions,
        credentials: Credentials | None,
    ) -> None:
        self.watch: Watch | None = None
        self.credentials = credentials
        self.log_directory = options["log_directory"]
        self._options = options
        self._submissions = submissions
        self._count = itertools.count()
        self._running: dict[str, asyncio.subprocess.Process] = {}
        security = None if credentials is None else credentials.security()
        scheduler = listening(
            options["scheduler_options"], options["interface"], security is not None
        )
        super().__init__(
            scheduler={"cls": Scheduler, "options": {**scheduler, "security": security}},
            security=security,
            worker={"cls": Remote, "options": {}},
            name="ssh",
        )  # type: ignore[no-untyped-call]

    def new_worker_spec(self) -> dict[str, Any]:
        """Called by Dask for each worker that is missing."""
        hosts = self._options["hosts"]
        used = Counter(spec["options"]["host"] for spec in self.worker_spec.values())
        number = next(self._count)
        # Of those with the fewest, the next in turn: one that cannot be reached is not insisted on.
        turn = [hosts[(number + i) % len(hosts)] for i in range(len(hosts))]
        host = min(turn, key=lambda host: used[host])
        options = {"host": host, "options": self._options, "cluster": self}
        return {f"ssh-{number}": {"cls": Remote, "options": options}}

    def started(self, name: str, host: str, ssh: asyncio.subprocess.Process) -> None:
        """A worker's `ssh` runs."""
        self._running[name] = ssh
        self._submissions.answer(name, name)
        logger.debug("worker %s on %s", name, host)

    def refused(self, name: str, words: str) -> None:
        """A worker's `ssh` could not be started."""
        self._submissions.answer(name, None, words)

    def jobs(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        """Those whose `ssh` still runs."""
        return {
            job_id: JobState(False, "connecting")
            for job_id in job_ids
            if self._running[job_id].returncode is None
        }

    def logs_of(self, job_id: str) -> list[Path]:
        """What `ssh` and the worker's start said."""
        return [log_of(self._options, job_id)]

    def cancel(self, job_ids: Sequence[str]) -> None:
        """End `ssh`; workers then leave by themselves."""
        for job_id in job_ids:
            with suppress(ProcessLookupError):
                self._running[job_id].kill()

    def close(self, timeout: float | None = None) -> Any:
        """Tell all workers to leave."""
        if self.watch is not None:
            self.watch.stop()
        return super().close(timeout)


def log_of(options: Mapping[str, Any], name: str) -> Path:
    """Where a worker's `ssh` writes."""
    return Path(options["log_directory"]) / f"ssh.{name}.log"


def ssh_command(host: str, scheduler: str, name: str, options: Mapping[str, Any]) -> list[str]:
    """The local command that starts a worker on a host."""
    worker = [
        *("exec", options["python"] or shlex.quote(sys.executable), "-m", ENTRY, scheduler),
        *("--leave-at-eof", "--name", name, "--memory-limit", str(options["memory"] or 0)),
        *("--death-timeout", str(options["death_timeout"])),
        *("--local-directory", options["local_directory"]),
    ]
    if options["interface"]:
        worker += ["--interface", options["interface"]]
    if scheduler.startswith("tls://"):
        worker.append("--tls-from-stdin")
    worker += options["worker_extra_args"]
    # What comes on stdin is for the worker alone.
    prologue = ["{", *options["job_script_prologue"], ":", "} < /dev/null"]
    script = "\n".join([*shell_lines(options["cores"]), *prologue, " ".join(worker)])
    # Whatever the login shell is, a POSIX shell reads the script.
    return [*shlex.split(options["ssh_command"]), host, f"exec sh -c {shlex.quote(script)}"]


def make_cluster(config: ParallelConfig, logs: Path) -> Cluster:
    """Start a worker on each host in turn; they come by themselves."""
    options = with_defaults(config.options, logs)
    submissions = Submissions()
    cluster = Cluster(options, submissions, make_credentials() if config.secure else None)
    with closed_on_error(cluster):
        cluster.watch = Watch(cluster, cluster.jobs, submissions, config)
        submit_first(cluster, submissions, config, "workers")
    logger.info(
        "%d workers are started by ssh on %s", config.n_at_first, ", ".join(options["hosts"])
    )
    return cluster
