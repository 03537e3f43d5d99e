"""On a real Slurm: the bytes of a local run, whatever happens to jobs and drivers."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from drivers import DEADLINE, await_that, is_running
from workloads import Lines, Provider, forwards, lines_of, note, notes, tell

from espnet3.errors import ConfigError, RunStopped
from espnet3.parallel.parallel import parallel_session, set_parallel

pytestmark = [pytest.mark.clusters, pytest.mark.usefixtures("slurm_lab", "_queue_is_left_empty")]

OPTIONS = {"memory": "500MB", "interface": "lo", "walltime": "10"}


def slurm(n_workers=2, **keys):
    options = {**OPTIONS, **keys.pop("options", {})}
    return {
        "env": "slurm",
        "n_workers": n_workers,
        "options": {key: value for key, value in options.items() if value is not None},
        **keys,
    }


def call(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def queue(state=None):
    """Ids of our jobs that are pending or running; Slurm shows those that end a moment longer."""
    states = state or "PENDING,RUNNING,SUSPENDED"
    return call("squeue", "-h", "-o", "%i", "-t", states).split()


@pytest.fixture
def _queue_is_left_empty():
    """What every test shows: its jobs end with it."""
    yield
    try:
        await_that(lambda: not queue())
    finally:
        call("scancel", "-u", "root")


def pid_of(item, log):
    """The process that has an item in hand."""
    lines = [line.split() for line in notes(log, "forwards")]
    return next(pid for number, pid in lines if number == str(item))


def job_of(out, item, log):
    """The job whose worker has an item in hand."""
    for path in (out / "logs").glob("worker.*.log"):
        jobs = {pid: job for job, pid in re.findall(r"job (\d+), pid (\d+)", path.read_text())}
        if pid_of(item, log) in jobs:
            return jobs[pid_of(item, log)]
    raise AssertionError(f"no worker's log tells of item {item}")


def driver_says(log):
    return (log / "driver.txt").read_text()


def merged(out):
    return (out / "text").read_bytes() + (out / "ids").read_bytes()


def killed_positions(out):
    lines = [line for path in out.glob("ledger.*.jsonl") for line in path.read_text().splitlines()]
    return [line for line in map(json.loads, lines) if line.get("kind") in ("killed", "failed")]


@pytest.mark.parametrize("security", [None, False])
def test_same_bytes_and_one_set_of_jobs_for_a_session(log, tmp_path, record_property, security):
    began, first_unit = time.time(), []
    with parallel_session(slurm(security=security)):
        for name in ("one", "two"):
            out = tmp_path / name
            assert Lines(Provider(log), output_dir=out)(range(60)) == lines_of(range(60))
            jobs = set(queue())
            first_unit.append(min(p.stat().st_ctime for p in (tmp_path / name).glob("split.*")))
            assert len(jobs) == 2
            text = "".join(p.read_text() for p in (out / "logs").glob("worker.slurm-*.log"))
            assert set(re.findall(r"job (\d+), pid", text)) <= jobs
    record_property("seconds from call to first shard", round(first_unit[0] - began, 1))
    assert not queue()
    assert forwards(log) == sorted([*range(60)] * 2)
    assert not [*tmp_path.glob("*/logs/.tls-*")]


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
            RunStopped,
            "sbatch: error: Memory specification can not be satisfied",
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


def test_pending_jobs_are_told_with_their_reason(log, out, start_driver):
    others = [
        call("sbatch", "--parsable", "--exclusive", "--output", "/dev/null", "--wrap", "sleep 600")
        for _ in range(2)
    ]
    await_that(lambda: len(queue("RUNNING")) == 2)
    driver = start_driver(5, **slurm(1, worker_start_timeout=12))
    assert driver.wait(DEADLINE) == 1
    assert re.search(
        r"waiting for a worker: job \d+ pending \((Resources|Priority)", driver_says(log)
    )
    assert "RunStopped: no worker came within 12 s: job" in driver_says(log)
    assert sorted(queue()) == sorted(job.strip() for job in others)
    call("scancel", *[job.strip() for job in others])


def test_cancelled_worker_commits_what_it_has_and_is_replaced(log, out, start_driver):
    tell(log, 30, "hold")
    driver = start_driver(60, **slurm(lease_seconds=1.0))
    await_that(lambda: notes(log, "held"), driver)
    job = job_of(out, 30, log)
    call("scancel", job)
    await_that(lambda: "leaving" in (out / "logs" / f"espnet3-{job}.err").read_text(), driver)
    tell(log, 31, "hold")
    tell(log, 30, None)
    # 31 is done by another worker, or by this one's successor.
    await_that(lambda: "31" in notes(log, "held"), driver)
    await_that(lambda: len(queue("RUNNING")) == 2 and job not in queue(), driver)
    tell(log, 31, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))
    assert forwards(log) == [*range(60)]
    assert killed_positions(out) == []


def test_lost_job_counts_against_no_item(log, out, start_driver):
    tell(log, 30, "hold")
    driver = start_driver(60, **slurm(lease_seconds=1.0, max_kills=1))
    await_that(lambda: notes(log, "held"), driver)
    job = job_of(out, 30, log)
    call("scancel", "--full", "--signal=KILL", job)
    await_that(lambda: not is_running(pid_of(30, log)), driver)
    tell(log, 30, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))
    assert killed_positions(out) == []
    assert forwards(log).count(30) == 2


def test_item_that_kills_its_worker_does_count(log, out, start_driver):
    tell(log, 30, "kill")
    driver = start_driver(60, **slurm(1, lease_seconds=1.0, max_kills=2))
    assert driver.wait(DEADLINE) == 1
    assert "1 of 60 items failed (1 WorkerKilled); 59 are done" in driver_says(log)
    assert "killed by signal 9 (SIGKILL)" in driver_says(log)


def test_walltime_and_a_requeue_lose_nothing(log, out, start_driver):
    tell(log, 30, "hold")
    tell(log, 50, "hold")
    driver = start_driver(60, **slurm(lease_seconds=1e-6))
    await_that(lambda: len(notes(log, "held")) == 2, driver)
    first, second = job_of(out, 30, log), job_of(out, 50, log)
    call("scontrol", "update", f"jobid={first}", "EndTime=now+1")
    call("scontrol", "requeue", second)
    await_that(lambda: not is_running(pid_of(50, log)), driver)
    await_that(lambda: first not in queue(), driver)
    tell(log, 30, None)
    tell(log, 50, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))
    assert killed_positions(out) == []


def test_job_that_is_refused_while_others_run_is_submitted_again(log, out, start_driver):
    tell(log, 30, "hold")
    tell(log, 50, "hold")
    driver = start_driver(60, **slurm(lease_seconds=1e-6))
    await_that(lambda: len(notes(log, "held")) == 2, driver)
    job = job_of(out, 50, log)
    call("scontrol", "update", "PartitionName=cpu", "State=DRAIN")
    try:
        call("scancel", "--full", "--signal=KILL", job)
        await_that(lambda: "a job was refused, and is submitted again" in driver_says(log), driver)
        assert "Required partition not available" in driver_says(log)
    finally:
        call("scontrol", "update", "PartitionName=cpu", "State=UP")
    await_that(lambda: len(queue("RUNNING")) == 2, driver)
    tell(log, 30, None)
    tell(log, 50, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))


def test_worker_leaves_before_its_walltime_and_is_replaced(log, out, start_driver):
    tell(log, 9, "hold")
    options = {"worker_extra_args": ["--drain-after", "6"]}
    driver = start_driver(20, **slurm(1, options=options))
    await_that(lambda: notes(log, "held"), driver)
    job = job_of(out, 9, log)
    await_that(
        lambda: "its walltime is near" in (out / "logs" / f"espnet3-{job}.err").read_text(), driver
    )
    tell(log, 9, None)
    assert driver.wait(DEADLINE) == 0
    assert forwards(log) == [*range(20)]
    assert merged(out) == lines_of(range(20))
    assert f"job {job} (worker slurm-0) is over; submitting another" in driver_says(log)


@pytest.mark.parametrize(
    ("signals", "status"),
    [([signal.SIGINT], 130), ([signal.SIGTERM], 143), ([signal.SIGINT, signal.SIGINT], 130)],
    ids=["Ctrl-C", "SIGTERM", "Ctrl-C twice"],
)
def test_interrupted_driver_leaves_no_job(log, out, start_driver, signals, status):
    tell(log, 30, "hold")
    driver = start_driver(60, **slurm())
    await_that(lambda: notes(log, "held"), driver)
    for number in signals:
        os.killpg(driver.pid, number)
        await_that(lambda: "Stopping after" in driver_says(log), driver)
    if len(signals) == 1:
        tell(log, 30, None)
    # A shell says 130 where Python says that the signal ended it.
    assert driver.wait(DEADLINE) in (status, status - 128 if status == 143 else -2)
    await_that(lambda: not queue())
    assert not (out / "text").exists()
    assert not [*out.glob("logs/.tls-*")]


def test_killed_driver_leaves_no_job_and_is_resumed(log, out, start_driver, record_property):
    tell(log, 30, "hold")
    options = {"death_timeout": 5}
    driver = start_driver(60, **slurm(lease_seconds=1e-6, options=options))
    await_that(lambda: notes(log, "held"), driver)
    driver.kill()
    driver.wait()
    began = time.monotonic()
    await_that(lambda: not queue())
    record_property("seconds from kill -9 to no job", round(time.monotonic() - began))
    tell(log, 30, None)
    done = set(forwards(log))
    assert start_driver(60, **slurm()).wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))
    assert len(forwards(log)) < 60 + len(done)


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
