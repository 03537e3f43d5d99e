"""Workers are connections, and a process may have so many: a driver makes room before they come."""

import os
import resource
import subprocess
import sys

import pytest
from workloads import Provider, Squares

from espnet3.parallel.parallel import set_parallel


@pytest.fixture
def room_for_few():
    """A soft limit that leaves this process room for 25 files, put back at the end."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 25, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_run_raises_the_soft_limit_to_what_its_workers_need(room_for_few, log):
    set_parallel({"n_workers": 2})
    assert Squares(Provider(log))(range(10)) == [i * i for i in range(10)]


def test_more_workers_than_the_hard_limit_allows_are_refused_before_the_start():
    program = (
        "from espnet3.parallel.parallel import build_client\n"
        "build_client({'env': 'ssh', 'n_workers': 900, 'security': False,"
        " 'options': {'hosts': ['localhost']}})"
    )
    limited = ["sh", "-c", 'ulimit -n 1024; exec "$@"', "sh", sys.executable, "-c", program]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "parallel.n_workers: 900 workers may need" in done.stderr
    assert "its hard limit is 1024" in done.stderr
