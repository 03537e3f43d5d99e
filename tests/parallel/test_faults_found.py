"""Faults that fault injection has found, each as the smallest thing that shows it."""

import os
import shutil
import sys
import threading

import pytest
from drivers import await_that
from workloads import Lines, Provider, Squares, lines_of, note, notes, tell

from espnet3.errors import DataError, EnvBuildError, OwnershipLost, RunFailed, RunInUse, RunStopped
from espnet3.parallel.base_runner import BaseRunner, concatenate_shard_files
from espnet3.parallel.engine.directory import read_summary
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import parallel_map, parallel_session, set_parallel


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


class Empty(EnvironmentProvider):
    def build_env_local(self):
        return {}


class Same(BaseRunner):
    @staticmethod
    def forward(idx):
        return idx


def test_driver_whose_directory_became_another_run_leaves_that_alone(log, out):
    class Old(Lines):
        @staticmethod
        def forward(idx, **env):
            if idx == 3:
                shutil.rmtree(out)
                Lines(Provider(log), output_dir=out)(range(8))
            return {"utt_id": f"old{idx}", "text": "old"}

    with pytest.raises((OwnershipLost, RunStopped)):
        Old(Provider(log), output_dir=out)(range(8))
    assert (out / "text").read_bytes() + (out / "ids").read_bytes() == lines_of(range(8))
    assert Lines(Provider(log), output_dir=out)(range(8)) == lines_of(range(8))


def test_concatenation_without_the_shards_leaves_what_is_published(tmp_path):
    published = tmp_path / "text"
    published.write_text("the newer run's\n")
    shard = tmp_path / "split.1"
    with pytest.raises(DataError, match="is gone"):
        concatenate_shard_files([shard], "text", published)
    assert published.read_text() == "the newer run's\n"


def test_child_that_forward_forks_never_goes_on_as_a_worker(log, out, n_workers):
    class Forking(Squares):
        @staticmethod
        def forward(idx, log):
            if idx == 5 and os.fork() == 0:
                sys.exit(0)
            return idx * idx

    assert Forking(Provider(log), output_dir=out)(range(12)) == [i * i for i in range(12)]
    assert Forking(Provider(log), output_dir=out)(range(12)) == [i * i for i in range(12)]


def test_result_file_that_lost_its_tail_is_noticed(log, out):
    runner = Squares(Provider(log), output_dir=out)
    runner(range(10))
    (results,) = out.glob("split.*/results.jsonl")
    results.write_bytes(results.read_bytes()[:7])
    with pytest.raises(DataError, match="the results of its 10 items"):
        runner(range(10))


def test_threads_share_the_cluster_of_a_session(log, tmp_path):
    results = {}

    def work(name):
        results[name] = Squares(Provider(log), output_dir=tmp_path / name)(range(30))

    with parallel_session({"n_workers": 2}):
        threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "other")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == dict.fromkeys(("one", "other"), [i * i for i in range(30)])


def test_worker_that_comes_too_late_for_one_run_is_there_for_the_next(log, tmp_path):
    class OneIsSlow(EnvironmentProvider):
        def build_env_local(self):
            note(log, "builds", os.getpid())
            if notes(log, "builds")[0] != str(os.getpid()):
                await_that((log / "go").exists)
            return {}

    class Together(BaseRunner):
        @staticmethod
        def forward(idx):
            note(log, "pids", os.getpid())
            await_that(lambda: len(set(notes(log, "pids"))) == 2)
            return idx

    with parallel_session({"n_workers": 2}):
        assert Same(OneIsSlow(), output_dir=tmp_path / "one")(range(6)) == list(range(6))
        (log / "go").touch()
        assert Together(Empty(), output_dir=tmp_path / "two")(range(8)) == list(range(8))


def test_reading_the_lock_file_does_not_let_go_of_it(log, out):
    class Checksums(Squares):
        def merge(self, shard_dirs):
            for path in out.iterdir():
                if path.is_file():
                    path.read_bytes()
            with pytest.raises(RunInUse):
                Squares(self.provider, output_dir=out)(range(3))
            return super().merge(shard_dirs)

    assert Checksums(Provider(log), output_dir=out)(range(3)) == [0, 1, 4]


def test_exception_of_a_build_that_has_no_text_is_told_all_the_same(log, out, n_workers):
    class Mute(Exception):
        def __str__(self):
            raise IndexError("no text")

    class Broken(EnvironmentProvider):
        def build_env_local(self):
            raise Mute

    with pytest.raises(EnvBuildError, match="Mute: .*cannot be shown"):
        Squares(Broken(), output_dir=out)(range(3))


def test_directory_that_a_worker_cannot_use_is_no_fault_of_the_provider(log, out, n_workers):
    class Clumsy(EnvironmentProvider):
        def build_env_local(self):
            shutil.rmtree(out / "logs", ignore_errors=True)
            return {}

    with pytest.raises(RunStopped, match=r"logs/inflight.*run the same command again"):
        Same(Clumsy(), output_dir=out)(range(3))
    assert Same(Empty(), output_dir=out, resume=False)(range(3)) == [0, 1, 2]


def test_log_for_which_there_is_no_room_stops_nobody(log, out, two_workers):
    (out / "logs").mkdir(parents=True)
    for worker in range(2):
        (out / "logs" / f"worker.{worker}.log").symlink_to("/dev/full")
    assert Same(Empty(), output_dir=out)(range(3)) == [0, 1, 2]


def test_exit_in_a_mapped_function_is_an_ordinary_error(two_workers):
    def leave(element):
        sys.exit(2)

    with pytest.raises(RuntimeError, match=r"leave called sys.exit\(2\)"):
        parallel_map(leave, [1])


def test_numpy_values_in_a_config_count_by_their_value(log, out):
    import numpy as np

    from espnet3.errors import IdentityChanged

    def runner(beam):
        return Squares(Provider(log, beam=beam), output_dir=out)

    runner(np.int64(5))(range(3))
    runner(5)(range(3))
    with pytest.raises(IdentityChanged, match=r"beam: 5 -> 50"):
        runner(np.int64(50))(range(3))


def test_forward_that_takes_self_is_refused_at_once():
    from espnet3.errors import ConfigError

    class Method(BaseRunner):
        def forward(self, idx):
            return idx

    with pytest.raises(ConfigError, match="staticmethod"):
        Method(None)


def test_hundreds_of_failures_are_skipped(log, out):
    class Bad(Squares):
        @staticmethod
        def forward(idx, log):
            if idx % 2:
                raise ValueError
            return idx

    set_parallel({"on_error": "skip", "max_failures": 10_000})
    assert Bad(Provider(log), output_dir=out)(range(400)) == list(range(0, 400, 2))


def test_dask_never_gives_up_a_worker_that_is_being_restarted(log, out, two_workers):
    # Fifteen seconds after any death it would look whether the worker's name is there, and if that
    # was just being restarted after another death, close it for good; both gone, a run hung.
    import dask
    from dask.utils import parse_timedelta

    assert Squares(Provider(log), output_dir=out)(range(4)) == [0, 1, 4, 9]
    waits = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))
    assert waits > 30 * 24 * 3600


@pytest.mark.parametrize("workers", [1, 2])
def test_batch_that_forward_empties_fails_with_its_own_error(log, out, cluster, workers):
    class Emptying(Lines):
        @staticmethod
        def forward(idx, **env):
            if 5 in idx:
                idx.clear()
                raise ValueError("bad")
            return Lines.forward(idx, **env)

    set_parallel({"n_workers": workers, "on_error": "skip"})
    runner = Emptying(Provider(log), output_dir=out, batch_size=4)
    assert runner(range(12)) == lines_of(i for i in range(12) if i != 5)


def test_suspended_driver_blames_no_item_for_the_time_that_it_slept(log, out):
    from espnet3.parallel.engine.dealer import Lease
    from espnet3.parallel.engine.marker import Marker
    from espnet3.parallel.executors.worker_state import Worker

    marker = log / "inflight"
    cells = Marker(marker)
    cells.begin_lease(3)
    cells.cells[0] = 7 + 1
    worker = Worker(task=None, marker=str(marker), lease=Lease(3, 0, 10, 1.0))

    def is_stuck_at(now):
        worker.look(now, every=1.0)
        return worker.is_stuck(limit=8.0)

    assert not any(map(is_stuck_at, (100.0, 101.0, 160.0, 161.0)))
    assert any(is_stuck_at(161.0 + step) for step in range(1, 12))
    assert worker.ended_at == 7


def test_worker_that_dies_before_its_nanny_knows_its_address_is_told_with_its_signal(
    log, out, monkeypatch
):
    from distributed.nanny import WorkerProcess

    monkeypatch.setattr(WorkerProcess, "_init_msg_interval", 0.5)  # between two looks
    tell(log, 5, "kill")
    with (
        parallel_session({"n_workers": 1}, run={"unit_timeout": 60}),
        pytest.raises(RunFailed, match=r"the last one killed by signal 9 \(SIGKILL\)"),
    ):
        Lines(Provider(log), output_dir=out)(range(8))
    assert read_summary(out).accepted == 7
