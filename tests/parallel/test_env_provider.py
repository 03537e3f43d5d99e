"""Providers: which methods suffice, how often an env is built, and what a failing build says."""

import logging
import os
import signal

import pytest
from workloads import Provider, Squares, forwards, note, notes, pids

from espnet3.errors import ConfigError, EnvBuildError, ESPnet3Error, RunStopped
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import parallel_map


def echo(value):
    """A runner that returns one entry of the env with each item."""

    class Echo(BaseRunner):
        @staticmethod
        def forward(idx, **env):
            return [idx, env[value]]

    return Echo


class Local(EnvironmentProvider):
    def build_env_local(self):
        return {"word": f"local {self.config}"}


class OnWorkers(EnvironmentProvider):
    def build_worker_setup_fn(self):
        config = self.config

        def setup():
            return {"word": f"setup {config}"}

        return setup


class DuckLocal:
    def build_env_local(self):
        return {"word": "duck"}


class DuckOnWorkers:
    def build_worker_setup_fn(self):
        return lambda: {"word": "duck"}


class Empty(EnvironmentProvider):
    pass


class NoProvider:
    pass


@pytest.mark.parametrize(
    ("provider", "word"),
    [
        (Local(7), "local 7"),
        (OnWorkers(7), "setup 7"),
        (DuckLocal(), "duck"),
        (DuckOnWorkers(), "duck"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_either_method_suffices_wherever_it_runs(provider, word, n_workers):
    assert echo("word")(provider)(range(3)) == [[i, word] for i in range(3)]


def test_the_methods_follow_from_each_other():
    assert Local(1).build_worker_setup_fn()() == {"word": "local 1"}
    assert OnWorkers(1).build_env_local() == {"word": "setup 1"}


def test_with_both_methods_each_is_used_in_its_place(n_workers):
    class Both(OnWorkers):
        def build_env_local(self):
            return {"word": "here"}

    expected = "here" if n_workers == 1 else "setup None"
    assert echo("word")(Both())([0]) == [[0, expected]]


def test_provider_with_neither_method_is_refused(n_workers):
    with pytest.raises(ESPnet3Error, match="Empty must implement build_env_local"):
        echo("word")(Empty())(range(3))
    with pytest.raises(ConfigError, match="NoProvider is no provider: it has neither"):
        echo("word")(NoProvider())(range(3))


@pytest.mark.parametrize(
    ("env", "kind"), [(["a"], "list"), (None, "NoneType"), ({1: "a"}, "dict"), ("text", "str")]
)
def test_env_that_is_no_dict_from_names_is_refused(env, kind, n_workers):
    class Odd(EnvironmentProvider):
        def build_env_local(self):
            return env

    with pytest.raises(ESPnet3Error, match=f"Odd built a {kind}; an env is a dict"):
        echo("word")(Odd())(range(3))


def test_env_is_built_once_in_each_process_and_kept(log, n_workers):
    runner = Squares(Provider(log), output_dir=log.parent / "out", batch_size=2)
    assert runner(range(40)) == [i * i for i in range(40)]
    builds = [int(pid) for pid in notes(log, "builds")]
    assert len(builds) == len(set(builds)) <= n_workers
    assert pids(log) <= set(builds)
    assert (os.getpid() in builds) == (n_workers == 1)


def test_env_is_not_built_for_a_finished_run(log, n_workers):
    class Once(Provider):
        def build_env_local(self):
            if (log / "finished").exists():
                raise RuntimeError("nobody needs an env any more")
            return super().build_env_local()

    runner = Squares(Once(log), output_dir=log.parent / "out")
    runner(range(4))
    (log / "finished").touch()
    assert runner(range(4)) == [0, 1, 4, 9]


def test_next_run_gets_an_env_of_its_own(log, n_workers):
    assert echo("word")(Provider(log, word="one"))([0]) == [[0, "one"]]
    assert echo("word")(Provider(log, word="two"))([0]) == [[0, "two"]]


def test_failing_build_names_provider_worker_and_cause(log, caplog, n_workers):
    class Broken(EnvironmentProvider):
        def build_env_local(self):
            raise FileNotFoundError("no model at exp/model.pth")

    runner = Squares(Broken({"log": str(log)}), output_dir=log.parent / "out")
    with caplog.at_level(logging.INFO), pytest.raises(EnvBuildError) as caught:
        runner(range(10))
    said = str(caught.value).splitlines()[0]
    where = "in this process" if n_workers == 1 else "in worker "
    assert f"Broken could not build its env {where}" in said
    assert said.count("FileNotFoundError: no model at exp/model.pth") == 1
    assert "no model at" not in caplog.text
    assert forwards(log) == []


def test_cluster_is_good_after_a_failing_build(log, two_workers):
    class Broken(EnvironmentProvider):
        def build_env_local(self):
            raise SystemExit("no")

    with pytest.raises(EnvBuildError, match="Broken could not build its env in worker"):
        Squares(Broken())(range(10))
    assert Squares(Provider(log))(range(3)) == [0, 1, 4]


def test_build_that_fails_once_is_tried_again_by_the_next_call(log, n_workers):
    class Flaky(Provider):
        def build_env_local(self):
            if not (log / "mended").exists():
                raise OSError("not mounted")
            return super().build_env_local()

    runner = Squares(Flaky(log), output_dir=log.parent / "out")
    with pytest.raises(EnvBuildError, match="not mounted"):
        runner(range(5))
    note(log, "mended", 1)
    assert runner(range(5)) == [0, 1, 4, 9, 16]


def test_build_that_kills_its_process_ends_the_run(log, two_workers):
    class Deadly(EnvironmentProvider):
        def build_env_local(self):
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RunStopped, match="died without an item in hand"):
        Squares(Deadly(), output_dir=log.parent / "out")(range(5))


def test_setup_of_a_map_that_fails(n_workers):
    def setup():
        raise FileNotFoundError("no model")

    expected = FileNotFoundError if n_workers == 1 else EnvBuildError
    with pytest.raises(expected, match="no model"):
        parallel_map(lambda x: x, range(4), setup_fn=setup)
