"""`adaptive`: as many workers as there is work for; on the stub Kubernetes of `kube_stub`."""

import re

import pytest
from drivers import await_that
from kube_stub import meanwhile
from workloads import Lines, Provider, forwards, lines_of, notes, tell

from espnet3.errors import ConfigError
from espnet3.parallel.config import parse_parallel
from espnet3.parallel.parallel import parallel_session


def running(server):
    return [
        pod.name for pod in server.pods.values() if pod.as_listed()["status"]["phase"] == "Running"
    ]


def test_workers_leave_when_nothing_is_left_for_them_and_come_back(
    log, tmp_path, kube, server, quick
):
    tell(log, 29, "hold")

    def look():
        await_that(lambda: notes(log, "held") and len(forwards(log)) == 30)
        await_that(lambda: len(running(server)) == 1)  # that which has 29 in hand
        tell(log, 29, None)

    def look_again():
        await_that(lambda: len(server.created) > 3)
        tell(log, 0, None)

    # Two units a lease at most: nobody else's items wait behind the one that is held.
    block = kube(3, adaptive={"minimum": 1}, lease_seconds=1e-6)
    with parallel_session(block):
        with meanwhile(look):
            assert Lines(Provider(log), output_dir=tmp_path / "a")(range(30)) == lines_of(range(30))
        assert len(server.created) == 3
        tell(log, 0, "hold")  # who is left cannot do all the others before somebody comes
        with meanwhile(look_again):
            assert Lines(Provider(log), output_dir=tmp_path / "b")(range(40)) == lines_of(range(40))
    assert forwards(log) == sorted([*range(30), *range(40)])
    assert server.is_empty


def test_pods_that_wait_are_cancelled_when_nothing_is_left_for_them(log, out, kube, server, quick):
    tell(log, 9, "hold")
    server.hold = lambda pod: (
        ("node", "Unschedulable", "no room") if server.created else None
    )  # there is room for one

    def look():
        await_that(lambda: notes(log, "held"))
        await_that(lambda: len(server.pods) == 1)
        tell(log, 9, None)

    block = kube(adaptive={"minimum": 0, "maximum": 4}, lease_seconds=1e-6)
    with meanwhile(look), parallel_session(block):
        assert Lines(Provider(log), output_dir=out)(range(10)) == lines_of(range(10))
    assert len(server.created) == 4
    assert server.is_empty


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"minimum": 1, "maximal": 4}, "maximal: unknown key; did you mean maximum?"),
        ({"maximum": 0}, "maximum: must be a whole number, 1 or more, not 0"),
        ({"minimum": 5}, "minimum: 5 is more than the 4 workers"),
        ({"maximum": 5}, "maximum: parallel.n_workers says another number"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(more, words):
    block = {"env": "slurm", "n_workers": 4, "options": {"memory": "1GB"}, "adaptive": more}
    with pytest.raises(ConfigError, match=re.escape(f"parallel.adaptive.{words}")):
        parse_parallel(block)


def test_local_workers_are_no_more_and_no_fewer():
    with pytest.raises(ConfigError, match="env: local has nobody who would wait"):
        parse_parallel({"n_workers": 4, "adaptive": {"minimum": 1}})


@pytest.mark.parametrize(
    ("block", "bounds"),
    [
        ({"n_workers": 8}, (8, 8)),
        ({"n_workers": 8, "adaptive": {"minimum": 2}}, (2, 8)),
        ({"adaptive": {"minimum": 2, "maximum": 6}}, (2, 6)),
        ({"n_workers": 8, "adaptive": {}}, (0, 8)),
        ({"n_workers": 8, "adaptive": {"maximum": 8}}, (0, 8)),
    ],
)
def test_bounds(block, bounds):
    where, _ = parse_parallel({"env": "slurm", "options": {"memory": "1GB"}, **block})
    assert where.bounds == bounds
