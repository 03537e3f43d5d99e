"""On a real Slurm: the bytes of a local run, on as many jobs as there are to be had."""

import asyncio
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest
from drivers import DEADLINE, await_that
from kube_stub import meanwhile
from outcome import driver_says, merged
from recipe import assert_same_results
from slurm_jobs import call, pid_of, queue, sbatch, slurm
from strangers import is_content, listening, walk
from workloads import Lines, Provider, forwards, lines_of, note, notes, tell

import espnet3
from espnet3.errors import ConfigError, RunStopped
from espnet3.parallel.backends import watch
from espnet3.parallel.parallel import parallel_session, set_parallel

pytestmark = [pytest.mark.clusters, pytest.mark.usefixtures("slurm_lab", "queue_is_left_empty")]

ROOT = Path(espnet3.__file__).parents[1]


@pytest.mark.parametrize("security", [None, False])
def test_same_bytes_and_one_set_of_jobs_for_a_session(log, tmp_path, record_property, security):
    began, first_unit, seconds = time.time(), [], []
    with parallel_session(slurm(security=security)):
        for name in ("one", "two"):
            out = tmp_path / name
            assert Lines(Provider(log), output_dir=out)(range(60)) == lines_of(range(60))
            seconds.append(round(time.time() - began, 1))
            jobs = set(queue())
            first_unit.append(min(p.stat().st_ctime for p in (tmp_path / name).glob("split.*")))
            assert len(jobs) == 2
            text = "".join(p.read_text() for p in (out / "logs").glob("worker.slurm-*.log"))
            assert set(re.findall(r"job (\d+), pid", text)) <= jobs
    assert not queue()
    began_here = time.time()
    set_parallel({"n_workers": 2, "security": security})
    assert Lines(Provider(log), output_dir=tmp_path / "here")(range(60)) == lines_of(range(60))
    record_property("seconds from call to first shard", round(first_unit[0] - began, 1))
    record_property("seconds of the first and both calls", seconds)
    record_property("seconds of the same call on local workers", round(time.time() - began_here, 1))
    assert forwards(log) == sorted([*range(60)] * 3)
    assert not [*tmp_path.glob("*/logs/.tls-*")]


def test_recipe_has_the_same_results_when_its_parallel_block_names_slurm(tmp_path):
    assert_same_results(tmp_path, slurm(2))
    # Both test sets have had the same jobs.
    assert len([*tmp_path.glob("there/**/logs/espnet3-*.err")]) == 2


def test_workers_have_the_directory_threads_and_one_thread(log, out):
    class Asks(Lines):
        @staticmethod
        def forward(idx, log, **env):
            from distributed import get_worker

            note(log, "where", os.getcwd())
            note(log, "threads", f"{os.environ['OMP_NUM_THREADS']} {get_worker().state.nthreads}")
            return {"utt_id": f"utt{idx}", "text": "x"}

    before = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        set_parallel(slurm(1, options={"cores": 2}))
        Asks(Provider(log), output_dir=out)(range(2))
    assert signal.getsignal(signal.SIGINT) is before
    assert set(notes(log, "where")) == {os.getcwd()}
    assert set(notes(log, "threads")) == {"2 1"}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"queue": "cpuu"}, ConfigError, "slurm has no queue 'cpuu'; did you mean cpu?"),
        (
            {"memory": "90GB"},
            ConfigError,
            "no node of the default queue has 1 core and 86016 MiB of memory; the largest has 4 ",
        ),
        ({"job_extra_directives": ["--nodelist=n9"]}, RunStopped, "Invalid node name"),
    ],
)
def test_refused_jobs_are_an_error_at_once_in_the_schedulers_words(log, out, options, error, words):
    set_parallel(slurm(options=options))
    with pytest.raises(error, match=re.escape(words)):
        Lines(Provider(log), output_dir=out)(range(5))
    assert not queue()


def test_unset_walltime_is_the_limit_of_the_partition(log, out):
    from espnet3.parallel.backends.job_script import job_script

    for partition, limit in {"one": "2:00", "cpu": "1-00:00:00", None: "1-00:00:00"}.items():
        script = job_script("slurm", {"memory": "1GB", "queue": partition}, out)
        assert f"#SBATCH -t {limit}\n" in script


def test_jobs_that_die_at_start_end_the_run_with_their_log(log, out):
    set_parallel(slurm(1, options={"job_script_prologue": ["echo no such module; exit 3"]}))
    with pytest.raises(RunStopped, match="ended before their worker had reached(.|\n)*no such mod"):
        Lines(Provider(log), output_dir=out)(range(5))


def test_script_that_is_shown_is_the_one_that_slurm_has(log, tmp_path):
    from espnet3.parallel.backends import preview
    from espnet3.parallel.backends.job_script import DRIVER
    from espnet3.parallel.clusters import open_cluster
    from espnet3.parallel.config import RunConfig, parse_parallel

    parallel, _ = parse_parallel(slurm(1))
    (shown,) = preview.starts(parallel, RunConfig(), tmp_path / "logs")
    with open_cluster(parallel, tmp_path / "logs") as cluster:
        (job,) = queue()
        submitted = call("scontrol", "write", "batch_script", job, "-")
        address = cluster.scheduler_address.partition("://")[2]
    submitted = re.sub(r"/\.tls-\w+/", "/.tls-<key>/", submitted.replace(address, DRIVER))
    assert submitted.rstrip("\n") == shown.text


def test_canary_is_one_job_and_leaves_the_run_alone(log, out, tmp_path):
    from espnet3.parallel.canary import Canary
    from espnet3.parallel.config import RunConfig, parse_parallel

    parallel, _ = parse_parallel(slurm(2))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    canary = Canary(Lines(Provider(log), output_dir=out), [7], (parallel, RunConfig()), scratch)
    assert canary.run() == lines_of([7])
    seen = canary.sighting
    assert seen.job in (scratch / "run/logs/worker.slurm-0.log").read_text()
    assert seen.env_seconds >= 0
    assert seen.came > canary.began - 1
    assert forwards(log) == [7]
    assert not out.exists()


def test_canary_whose_job_dies_at_start_says_how_its_log_ends(log, out, tmp_path):
    from espnet3.parallel.canary import Canary
    from espnet3.parallel.config import RunConfig, parse_parallel

    parallel, _ = parse_parallel(
        slurm(2, options={"job_script_prologue": ["echo no such module; exit 3"]})
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    canary = Canary(Lines(Provider(log), output_dir=out), [7], (parallel, RunConfig()), scratch)
    with pytest.raises(RunStopped, match="ended before their worker had reached(.|\n)*no such mod"):
        canary.run()
    assert canary.sighting is None


def test_pending_jobs_are_told_with_their_reason_and_those_of_others_stay(log, out, start_driver):
    others = [sbatch("--exclusive") for _ in range(3)]
    await_that(lambda: len(queue("RUNNING")) == 2)
    driver = start_driver(5, **slurm(1, worker_start_timeout=12))
    assert driver.wait(DEADLINE) == 1
    assert re.search(
        r"waiting for a worker: job \d+ pending \((Resources|Priority)", driver_says(log)
    )
    assert "RunStopped: no worker came within 12 s: job" in driver_says(log)
    assert sorted(queue()) == sorted(others)
    call("scancel", *others)


def test_run_goes_on_with_the_one_job_that_a_full_queue_has_room_for(log, out, start_driver):
    others = [sbatch("--exclusive", "--nodelist=n1"), sbatch("--cpus-per-task=3", "--nodelist=n2")]
    await_that(lambda: len(queue("RUNNING")) == 2)
    driver = start_driver(60, **slurm(3))
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))
    assert len([*(out / "logs").glob("worker.slurm-*.log")]) == 1
    assert sorted(queue()) == sorted(others)
    call("scancel", *others)


def test_jobs_that_are_late_are_told_of_while_others_work(log, out, monkeypatch, caplog):
    monkeypatch.setattr(watch, "LATE", 0.0)
    tell(log, 3, "hold")

    def look():
        await_that(lambda: "workers are there" in caplog.text)
        tell(log, 3, None)

    caplog.set_level("INFO")
    set_parallel(slurm(3, options={"memory": "5000MB"}))
    with meanwhile(look):
        assert Lines(Provider(log), output_dir=out)(range(10)) == lines_of(range(10))
    assert re.search(r"2 of 3 workers are there; job \d+ pending \(Resources\) for \d", caplog.text)


@pytest.fixture
def accept(lab_dir):
    """Let Slurm accept so many more jobs, in all."""
    limit = lab_dir / "slurm" / "submit_limit"
    yield lambda n_jobs: limit.write_text(str(n_jobs))
    limit.unlink(missing_ok=True)


def test_run_goes_on_with_the_jobs_that_a_submit_limit_allows(log, out, start_driver, accept):
    accept(2)
    tell(log, 30, "hold")
    driver = start_driver(60, **slurm(3))
    await_that(lambda: "a job was refused, and is submitted again" in driver_says(log), driver)
    assert "(job submit limit, user's size and/or time limits)" in driver_says(log)
    assert len(queue()) == 2
    tell(log, 30, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))


def test_run_whose_jobs_a_submit_limit_forbids_ends_at_once(log, out, accept):
    accept(0)
    set_parallel(slurm(2))
    with pytest.raises(
        RunStopped, match="slurm refuses the job: sbatch: error: .*job submit limit"
    ):
        Lines(Provider(log), output_dir=out)(range(5))


def test_adaptive_jobs_end_when_nothing_is_left_for_them_and_come_back(log, tmp_path):
    tell(log, 29, "hold")

    def look():
        await_that(lambda: notes(log, "held") and len(forwards(log)) == 30)
        await_that(lambda: len(queue("RUNNING")) == 1)  # that which has 29 in hand
        tell(log, 29, None)

    with parallel_session(slurm(3, adaptive={"minimum": 1}, lease_seconds=1e-6)):
        with meanwhile(look):
            assert Lines(Provider(log), output_dir=tmp_path / "a")(range(30)) == lines_of(range(30))
        assert Lines(Provider(log), output_dir=tmp_path / "b")(range(40)) == lines_of(range(40))
    assert forwards(log) == sorted([*range(30), *range(40)])


def test_no_port_of_driver_or_jobs_answers_a_stranger(log, out, start_driver):
    for item in (30, 50):
        tell(log, item, "hold")
    driver = start_driver(60, **slurm(lease_seconds=1e-6))
    await_that(lambda: len(notes(log, "held")) == 2, driver)
    nannies = [psutil.Process(int(pid_of(item, log))).parent() for item in (30, 50)]
    ports = [port for process in (driver, *nannies) for port in listening(process)[0]]
    assert len(ports) == 5  # the scheduler, two nannies, two workers
    tcp, tls, web = asyncio.run(walk(ports))
    assert not any([*tcp, *tls, *map(is_content, web)])
    for item in (30, 50):
        tell(log, item, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))
