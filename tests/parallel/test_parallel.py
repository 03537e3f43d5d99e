"""Settings, clients, sessions and plain maps."""

import os
import signal
from pathlib import Path

import pytest
from drivers import await_that
from omegaconf import OmegaConf
from workloads import Provider, Squares, note, notes, pids

from espnet3.errors import ConfigError, EnvBuildError
from espnet3.parallel.config import RunConfig
from espnet3.parallel.parallel import (
    DictReturnWorkerPlugin,
    build_client,
    get_client,
    get_parallel_config,
    get_settings,
    parallel_for,
    parallel_map,
    parallel_session,
    reset_parallel,
    set_parallel,
    wrap_func_with_worker_env,
)

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
TWO = {"n_workers": 2}


def worker_pids(client):
    return set(client.run(os.getpid).values())


def ended(pid_set):
    """Whether these processes, children of this one, are gone."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pid_set)


def await_end(pid_set):
    await_that(lambda: ended(pid_set))


# settings


def test_nothing_is_set_at_first():
    assert get_parallel_config() is None
    with pytest.raises(ConfigError, match="call set_parallel first"):
        build_client()


@pytest.mark.parametrize("make", [dict, OmegaConf.create])
def test_what_was_given_is_copied(make):
    block = make({"n_workers": 2, "options": {"resources": {"slot": 1}}})
    set_parallel(block)
    block["n_workers"] = 7
    block["options"]["resources"]["slot"] = 7
    assert get_parallel_config() == {
        "env": "local", "n_workers": 2, "options": {"resources": {"slot": 1}},
    }  # fmt: skip


def test_what_is_got_is_a_copy():
    set_parallel({"n_workers": 2, "options": {"resources": {"slot": 1}}})
    got = get_parallel_config()
    got.n_workers = 7
    got.options.resources.slot = 7
    assert get_parallel_config().n_workers == 2
    assert get_parallel_config().options.resources.slot == 1


def test_none_keeps_what_is_set_and_reset_forgets_it():
    set_parallel(TWO)
    set_parallel(None)
    assert get_parallel_config().n_workers == 2
    reset_parallel()
    assert get_parallel_config() is None
    set_parallel(None)
    assert get_parallel_config() == {"env": "local", "n_workers": 1, "options": {}}


def test_none_with_a_run_block_changes_that_alone(log):
    set_parallel(TWO, {"limit": 3})
    set_parallel(None)
    set_parallel(None, {"limit": 2})
    assert get_parallel_config().n_workers == 2
    set_parallel({"n_workers": 1, "limit": 2})
    assert Squares(Provider(log))(range(9)) is None
    assert len(notes(log, "forwards")) == 2


@pytest.mark.parametrize(
    "wrong", [{"n_wokers": 3}, {"env": "slurm"}, {"n_workers": 0}, "local", {"on_error": "ignore"}]
)
def test_wrong_config_changes_nothing(wrong):
    set_parallel(TWO)
    for call in (set_parallel, build_client, lambda block: parallel_session(block).__enter__()):
        with pytest.raises(ConfigError):
            call(wrong)
        assert get_parallel_config().n_workers == 2


# clients


def test_get_client_closes_client_and_cluster():
    with get_client(TWO) as client:
        workers = worker_pids(client)
        assert len(workers) == 2
        assert os.getpid() not in workers
        assert client.submit(lambda x: x + 1, 1).result() == 2
    assert client.status == "closed"
    assert client.cluster.status.name == "closed"
    await_end(workers)
    assert get_parallel_config().n_workers == 2  # it was set


def test_get_client_closes_both_after_an_exception_too():
    set_parallel({"n_workers": 1})  # a client is always a real one
    workers = set()

    def fail():
        nonlocal client
        with get_client() as client:
            workers.update(worker_pids(client))
            client.submit(lambda: 1 / 0).result()

    client = None
    with pytest.raises(ZeroDivisionError):
        fail()
    assert (client.status, client.cluster.status.name) == ("closed", "closed")
    await_end(workers)


def test_worker_processes(monkeypatch):
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.setenv("MINE", "passed on")
    before = dict(os.environ)
    client = build_client(TWO)
    try:
        assert dict(os.environ) == before
        cores = len(os.sched_getaffinity(0))
        for environ in client.run(lambda: dict(os.environ)).values():
            assert environ["OMP_NUM_THREADS"] == str(max(1, cores // 2))
            assert environ["OPENBLAS_NUM_THREADS"] == environ["OMP_NUM_THREADS"]
            assert environ["MKL_NUM_THREADS"] == "7"
            assert environ["MINE"] == "passed on"

        def limits(dask_worker):
            return dask_worker.memory_manager.memory_limit, dask_worker.state.nthreads

        assert set(client.run(limits).values()) == {(None, 1)}
        nannies = client.run(
            lambda dask_worker: dask_worker.memory_manager.memory_limit, nanny=True
        )
        assert set(nannies.values()) == {None}
        daemonic = client.run(lambda: __import__("multiprocessing").current_process().daemon)
        assert set(daemonic.values()) == {False}
    finally:
        cluster = client.cluster
        client.close()
        cluster.close()
    assert dict(os.environ) == before


def test_worker_that_is_replaced_leaves_the_environment_as_it_was():
    before = dict(os.environ)
    client = build_client(TWO)
    try:
        pids = set(client.run(os.getpid).values())
        os.kill(min(pids), signal.SIGKILL)
        seen = lambda: set(client.run(os.getpid, on_error="ignore").values())  # noqa: E731
        await_that(lambda: len(seen() - pids) == 1)
        await_that(lambda: dict(os.environ) == before)
    finally:
        cluster = client.cluster
        client.close()
        cluster.close()


# sessions


def test_everything_in_a_session_shares_its_workers(log):
    with parallel_session(TWO):
        with get_client() as client:
            workers = worker_pids(client)
        Squares(Provider(log))(range(20))
        mapped = set(parallel_map(lambda _: os.getpid(), range(20)))
        with parallel_session(), get_client() as client:
            assert worker_pids(client) == workers
        with parallel_session(run={"lease_seconds": 1}):
            Squares(Provider(log))(range(20))
        with get_client(TWO) as client:
            assert worker_pids(client) == workers
    assert pids(log) | mapped <= workers
    await_end(workers)
    assert get_parallel_config() is None


def test_run_block_of_a_session_is_laid_over_what_is_set():
    with parallel_session(TWO, run={"limit": 5, "resume": False}):
        with parallel_session(run=OmegaConf.create({"on_error": "skip", "limit": None})):
            where, how = get_settings()
            assert (where.n_workers, how.on_error, how.resume, how.limit) == (
                2,
                "skip",
                False,
                None,
            )
        with parallel_session(run=RunConfig(limit=3)):
            assert get_settings()[1] == RunConfig(limit=3)
        assert get_settings()[1] == RunConfig(limit=5, resume=False)
        with parallel_session(TWO, run={"limit": 2}):  # says both, so nothing is taken over
            assert get_settings()[1] == RunConfig(limit=2)


def test_session_closes_its_cluster_after_an_exception():
    workers = set()

    def fail():
        with parallel_session(TWO):
            with get_client() as client:
                workers.update(worker_pids(client))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    await_end(workers)
    assert get_parallel_config() is None


def test_nested_session_with_another_config():
    set_parallel({"n_workers": 1})
    with parallel_session(TWO):
        with get_client() as client:
            first = worker_pids(client)
        with parallel_session({"n_workers": 1}, run={"on_error": "skip"}):
            assert get_parallel_config().n_workers == 1
            assert parallel_map(lambda _: os.getpid(), [1]) == [os.getpid()]
        assert get_parallel_config().n_workers == 2
        with get_client() as client:
            assert worker_pids(client) == first
        with parallel_session({"n_workers": 1}), get_client() as client:
            (other,) = worker_pids(client)
        assert get_parallel_config().n_workers == 2
    assert get_parallel_config().n_workers == 1
    await_end(first | {other})


def test_session_without_workers_starts_none(log):
    with parallel_session():
        assert Squares(Provider(log))(range(3)) == [0, 1, 4]
        assert pids(log) == {os.getpid()}


# envs of plain tasks


def take(x, word, scale=1, **rest):
    return [x, word, scale, sorted(rest)]


def test_functions_are_given_the_env_of_their_worker(two_workers):
    wrapped = wrap_func_with_worker_env(take)
    with get_client(setup_fn=lambda: {"word": "hi", "scale": 2, "other": 3}) as client:
        assert client.submit(wrapped, 7).result() == [7, "hi", 2, ["other"]]
        assert client.submit(wrapped, 7, "mine").result() == [7, "mine", 2, ["other"]]
        named = wrap_func_with_worker_env(lambda x, scale: x * scale)
        assert client.gather(client.map(named, range(4))) == [0, 2, 4, 6]
        with pytest.raises(ValueError, match="take was given word by the caller and by the worker"):
            client.submit(wrapped, 7, word="mine").result()
        assert client.submit(named, 7, other=1, pure=False).exception().__class__ is TypeError


def test_wrapped_function_outside_a_worker_gets_nothing():
    assert wrap_func_with_worker_env(take)(7, word="mine") == [7, "mine", 1, []]
    assert wrap_func_with_worker_env(take).__name__ == "take"


def test_worker_plugin_builds_once_in_each_process(log, two_workers):
    def setup():
        note(log, "builds", os.getpid())
        return {"word": os.getpid()}

    with get_client() as client:
        client.register_plugin(DictReturnWorkerPlugin(setup))
        wrapped = wrap_func_with_worker_env(lambda x, word: (os.getpid(), word))
        got = client.gather(client.map(wrapped, range(20), pure=False))
    assert all(pid == word for pid, word in got)
    assert sorted(notes(log, "builds")) == sorted({str(pid) for pid, _ in got})


def test_setup_that_fails_is_told_by_every_task(two_workers):
    def setup():
        raise FileNotFoundError("no model")

    with get_client(setup_fn=setup) as client:
        wrapped = wrap_func_with_worker_env(lambda x, word: x)
        for _ in range(2):
            with pytest.raises(EnvBuildError, match="FileNotFoundError: no model"):
                client.submit(wrapped, 1, pure=False).result()


# maps


def test_map_is_ordered_and_for_gives_everything(log, n_workers):
    provider = Provider(log, scale=3)
    setup = provider.build_worker_setup_fn()

    def scaled(x, scale, dataset):
        return x * scale + len(dataset)

    for data in (range(40, 0, -1), [], [5]):
        expected = [x * 3 + 1000 for x in data]
        assert parallel_map(scaled, data, setup_fn=setup) == expected
        assert sorted(parallel_for(scaled, iter(data), setup_fn=setup)) == sorted(expected)
    assert parallel_map(lambda x: -x, (x for x in range(3))) == [0, -1, -2]


def test_maps_use_the_client_that_is_given(cluster, n_workers):
    with get_client(TWO) as client:
        workers = worker_pids(client)
        set_parallel({"n_workers": 1})
        assert set(parallel_map(lambda _: os.getpid(), range(20), client=client)) <= workers
        assert set(parallel_for(lambda _: os.getpid(), range(20), client)) <= workers
        assert client.submit(lambda: 1).result() == 1  # it is still open
    with get_client(TWO, setup_fn=lambda: {"scale": 5}) as client:
        assert parallel_map(lambda x, scale: x * scale, range(3), client=client) == [0, 5, 10]


def test_exceptions_of_a_map_reach_the_caller(n_workers):
    def fail(x):
        if x == 5:
            raise ZeroDivisionError("five")
        return x

    for call in (parallel_map, parallel_for):
        with pytest.raises(ZeroDivisionError, match="five"):
            list(call(fail, range(10)))
    with pytest.raises(ConfigError, match="needs 'word', but the provider's env has only"):
        parallel_map(lambda x, word: x, range(3), setup_fn=lambda: {"other": 1})


def test_for_may_be_left_early(n_workers):
    for value in parallel_for(lambda x: x, range(50)):
        assert value in range(50)
        break
    assert parallel_map(lambda x: x, range(3)) == [0, 1, 2]


def test_env_of_one_map_is_not_that_of_the_next(n_workers):
    def word_of(x, word="none"):
        return word

    assert parallel_map(word_of, [1], setup_fn=lambda: {"word": "one"}) == ["one"]
    assert parallel_map(word_of, [1], setup_fn=lambda: {"word": "two"}) == ["two"]
    assert parallel_map(word_of, [1]) == ["none"]
