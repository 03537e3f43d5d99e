"""Settings, a cluster to share, and the way to `workloads` for worker processes."""

import os
import sys
from pathlib import Path

import pytest

from espnet3.parallel.parallel import parallel_session, reset_parallel, set_parallel

# Worker processes get this process's path, so they can import what tests hand them by name.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _nothing_is_set():
    reset_parallel()
    yield
    reset_parallel()


@pytest.fixture(autouse=True)
def _by_value(by_value):
    """For every test here."""


@pytest.fixture(scope="module")
def cluster():
    """One cluster for a module's tests, started by the first that wants workers."""
    with parallel_session():
        yield


@pytest.fixture(params=[1, 2], ids=["in process", "two workers"])
def n_workers(request, cluster):
    """Run here, and on two workers."""
    set_parallel({"n_workers": request.param})
    return request.param


@pytest.fixture
def two_workers(cluster):
    """Run on two workers."""
    set_parallel({"n_workers": 2})


@pytest.fixture
def log(tmp_path):
    """Where workloads note what they did."""
    path = tmp_path / "log"
    path.mkdir()
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def start_driver(log, out):
    """Start a driver in a process of its own."""
    from drivers import drivers

    with drivers(Path(__file__).with_name("run_workload.py"), out, log) as start:
        yield start


@pytest.fixture
def server(tmp_path):
    """A stub of Kubernetes."""
    from kube_stub import api_server

    (tmp_path / "kube").mkdir()
    with api_server(tmp_path / "kube") as server:
        yield server


@pytest.fixture
def kube(server, log):
    """Makes a `parallel:` block; in the end no worker runs."""

    def block(n_workers=None, options=None, **keys):
        options = {
            "image": "registry/espnet3:1",
            "memory": "1GB",
            "python": sys.executable,
            "kubeconfig": str(server.kubeconfig),
            "scheduler_options": {"host": "127.0.0.1"},
            **(options or {}),
        }
        keys |= {} if n_workers is None else {"n_workers": n_workers}
        return {"env": "kube", "options": options, **keys}

    yield block
    from drivers import await_that, is_running
    from workloads import pids

    await_that(lambda: not any(map(is_running, pids(log) - {os.getpid()})))


@pytest.fixture
def quick(monkeypatch):
    """The driver of this process looks after pods all the time."""
    from espnet3.parallel.backends import watch

    monkeypatch.setattr(watch, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(watch, "SETTLE", 0.0)
    monkeypatch.setattr(watch, "SUBMIT_AGAIN", 0.0)
