"""`env: ssh` whose workers are simulated: everything of the driver is real, nothing is started."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from distributed.deploy.spec import ProcessInterface

from benchmarks.measure import ROOT, environment
from espnet3.parallel.backends import ssh


class Hosts:
    """The processes that stand for workers.

    Args:
        size: workers of each.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.processes: list[subprocess.Popen[bytes]] = []
        self._places: dict[str, subprocess.Popen[bytes]] = {}

    def add(self, scheduler: str, name: str) -> None:
        """Let a worker come."""
        if len(self._places) == self._size * len(self.processes):
            command = [sys.executable, "-m", "benchmarks.worker_host", scheduler]
            self.processes.append(
                subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE)
            )
        self._places[name] = self.processes[-1]
        self._say(name, "+")

    def remove(self, name: str) -> None:
        """Let a worker go."""
        with suppress(BrokenPipeError):
            self._say(name, "-")

    def end(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.wait()

    def _say(self, name: str, what: str) -> None:
        stdin = self._places[name].stdin
        assert stdin is not None
        stdin.write(f"{what} {name}\n".encode())
        stdin.flush()


class Job:
    """Stands for the process of an `ssh` that runs."""

    returncode = None

    def kill(self) -> None:
        """Called for all workers at once, which then end with their hosts."""


@contextmanager
def simulated_hosts(size: int) -> Iterator[Hosts]:
    """Let `env: ssh` in this process start simulated workers, so many in one process."""
    hosts = Hosts(size)

    class Simulated(ProcessInterface):
        """Stands for `ssh.Remote`."""

        def __init__(self, scheduler: str, name: str, host: str, options: Any, cluster: Any):
            super().__init__()  # type: ignore[no-untyped-call]
            self._scheduler, self._name, self._cluster_ = scheduler, name, cluster

        async def start(self) -> None:
            hosts.add(self._scheduler, self._name)
            self._cluster_.started(self._name, "localhost", Job())
            await super().start()  # type: ignore[no-untyped-call]

        async def close(self) -> None:
            hosts.remove(self._name)
            await super().close()  # type: ignore[no-untyped-call]

    real, ssh.Remote = ssh.Remote, Simulated  # type: ignore[misc, assignment]
    try:
        yield hosts
    finally:
        ssh.Remote = real  # type: ignore[misc]
        hosts.end()


def settings(n: int) -> dict[str, Any]:
    """A `parallel:` block for `n` of them."""
    options = {"hosts": ["localhost"], "scheduler_options": {"host": "127.0.0.1"}}
    return {"env": "ssh", "n_workers": n, "security": False, "options": options}
