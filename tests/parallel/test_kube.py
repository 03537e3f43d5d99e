"""`env: kube`: the real client library against a stub API server that runs pods as processes."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from drivers import DEADLINE, await_that, is_running
from kube_stub import api_server
from workloads import Lines, Provider, forwards, lines_of, notes, pids, tell

from espnet3.errors import RunStopped
from espnet3.parallel.parallel import set_parallel


@pytest.fixture
def server(tmp_path):
    (tmp_path / "kube").mkdir()
    with api_server(tmp_path / "kube") as (server, _):
        yield server


@pytest.fixture
def kube(server, log):
    """Makes a `parallel:` block; in the end no pod is there, and no worker runs."""

    def block(n_workers=2, **keys):
        options = {
            "image": "registry/espnet3:1",
            "memory": "1GB",
            "python": sys.executable,
            "kubeconfig": str(server.directory / "kubeconfig"),
            "scheduler_options": {"host": "127.0.0.1"},
        }
        options |= keys.pop("options", {})
        return {"env": "kube", "n_workers": n_workers, "security": False, "options": options, **keys}

    yield block
    await_that(lambda: not any(map(is_running, pids(log) - {os.getpid()})))


def test_same_bytes_as_a_local_run_and_no_pod_is_left(log, out, kube, server):
    set_parallel(kube(3))
    assert Lines(Provider(log), output_dir=out)(range(60)) == lines_of(range(60))
    assert forwards(log) == [*range(60)]
    assert len(server.created) == 3
    assert server.pods == {}
