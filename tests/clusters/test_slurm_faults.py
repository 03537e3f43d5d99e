"""On a real Slurm: the bytes of a local run, whatever happens to jobs and nodes."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from drivers import DEADLINE, await_that, is_running
from outcome import driver_says, merged
from slurm_jobs import (
    call,
    job_of,
    killed_positions,
    node_of,
    pid_of,
    queue,
    sbatch,
    slurm,
)
from workloads import Lines, Provider, forwards, lines_of, notes, tell

from espnet3.errors import RunFailed
from espnet3.parallel.parallel import set_parallel

LAB = Path(__file__).with_name("labs") / "slurm.sh"

pytestmark = [pytest.mark.clusters, pytest.mark.usefixtures("slurm_lab", "queue_is_left_empty")]


@pytest.fixture(autouse=True)
def _done_again(log, record_property):
    yield
    done = forwards(log)
    record_property("positions done again", len(done) - len(set(done)))


@pytest.fixture
def nodes(lab_dir):
    """Nodes that a test may break; both work again after it."""
    slurm_dir = lab_dir / "slurm"

    class Nodes:
        @staticmethod
        def become(name, state):
            call("scontrol", "update", f"nodename={name}", f"state={state}", "reason=test")

        @staticmethod
        def lose_daemon(name):
            os.kill(int((slurm_dir / "run" / f"slurmd-{name}.pid").read_text()), signal.SIGKILL)

    yield Nodes
    subprocess.run(
        ["bash", str(LAB), "start"], env={**os.environ, "LAB_DIR": str(lab_dir)}, check=True
    )


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


def test_run_whose_jobs_are_all_cancelled_goes_on_with_others(log, out, start_driver):
    for item in (30, 50):
        tell(log, item, "hold")
    driver = start_driver(60, **slurm(lease_seconds=1e-6))
    await_that(lambda: len(notes(log, "held")) == 2, driver)
    jobs = set(queue())
    call("scancel", *jobs)
    await_that(
        lambda: all("leaving" in (out / "logs" / f"espnet3-{job}.err").read_text() for job in jobs),
        driver,
    )
    for item in (30, 50):
        tell(log, item, None)
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


def test_node_that_goes_down_costs_what_it_had_in_hand(log, out, start_driver, nodes):
    tell(log, 30, "hold")
    driver = start_driver(60, **slurm(lease_seconds=1.0, max_kills=1))
    await_that(lambda: notes(log, "held"), driver)
    job = job_of(out, 30, log)
    nodes.become(node_of(job), "down")
    await_that(lambda: not is_running(pid_of(30, log)), driver)
    await_that(lambda: len(notes(log, "held")) == 2, driver)  # dealt again
    await_that(lambda: len(queue("RUNNING")) == 2, driver)  # and replaced
    tell(log, 30, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))
    assert killed_positions(out) == []
    assert forwards(log).count(30) == 2


@pytest.mark.parametrize("is_lost", [False, True])
def test_worker_whose_node_is_given_up_is_not_disturbed_by_its_jobs_second_start(
    log, out, start_driver, nodes, is_lost
):
    tell(log, 30, "hold")
    driver = start_driver(60, **slurm(lease_seconds=1.0, max_kills=1))
    await_that(lambda: notes(log, "held"), driver)
    job = job_of(out, 30, log)
    nodes.lose_daemon(node_of(job))
    nodes.become(node_of(job), "down")
    await_that(lambda: job in queue("PENDING"), driver)
    call("scontrol", "update", f"jobid={job}", "StartTime=now")
    await_that(lambda: "name taken" in (out / "logs" / f"espnet3-{job}.err").read_text(), driver)
    await_that(lambda: job not in queue(), driver)
    if is_lost:  # after all, with its nanny
        psutil.Process(int(pid_of(30, log))).parent().kill()
        await_that(lambda: len(notes(log, "held")) == 2, driver)
    tell(log, 30, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))
    assert killed_positions(out) == []
    assert forwards(log).count(30) == 1 + is_lost
    await_that(lambda: not is_running(pid_of(30, log)))


def test_node_that_drains_keeps_its_worker_and_gets_no_other(log, out, start_driver, nodes):
    tell(log, 30, "hold")
    tell(log, 50, "hold")
    driver = start_driver(60, **slurm(lease_seconds=1e-6))
    await_that(lambda: len(notes(log, "held")) == 2, driver)
    first, second = job_of(out, 30, log), job_of(out, 50, log)
    drained = node_of(first)
    nodes.become(drained, "drain")
    call("scancel", "--full", "--signal=KILL", second)
    await_that(lambda: len(set(queue("RUNNING")) - {first, second}) == 1, driver)
    (third,) = set(queue("RUNNING")) - {first, second}
    assert node_of(third) != drained
    tell(log, 30, None)
    tell(log, 50, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))
    assert killed_positions(out) == []
    assert forwards(log).count(30) == 1


def test_preempted_job_comes_back_with_its_log_and_its_items_are_done_meanwhile(
    log, out, start_driver
):
    tell(log, 30, "hold")
    driver = start_driver(60, **slurm(lease_seconds=1.0, options={"queue": "low"}))
    await_that(lambda: notes(log, "held"), driver)
    job = job_of(out, 30, log)
    other = sbatch("--partition=cpu", "--exclusive", f"--nodelist={node_of(job)}")
    await_that(lambda: job in queue("PENDING") and other in queue("RUNNING"), driver)
    await_that(lambda: len(notes(log, "held")) == 2, driver)  # by the other worker
    call("scancel", other)
    call("scontrol", "update", f"jobid={job}", "StartTime=now")
    await_that(lambda: job in queue("RUNNING"), driver)
    tell(log, 30, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(60))
    assert killed_positions(out) == []
    assert forwards(log).count(30) == 2
    assert "leaving: signal SIGTERM" in (out / "logs" / f"espnet3-{job}.err").read_text()
    assert re.search(rf"job {job} \(worker slurm-\d\) is back in the queue: pen", driver_says(log))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"worker_extra_args": ["--memory-limit", "0"]}, "which took more memory than it may"),
        ({"memory": "300MB", "job_mem": "2GB"}, r"it took \d+\.\d+ MiB of memory, of 286"),
    ],
    ids=["its job's", "its worker's"],
)
def test_item_that_takes_more_memory_than_it_may_is_set_aside_alone(log, out, options, words):
    class Hoards(Lines):
        @staticmethod
        def forward(idx, log, **env):
            hoard = []
            while idx == 7:
                if len(hoard) < 60:
                    hoard.append(b"x" * 10_000_000)
                time.sleep(0.01)
            return Lines.forward(idx, log=log, **env)

    set_parallel(slurm(options=options))
    with pytest.raises(RunFailed, match=f"2 workers died in this item .*{words}") as caught:
        Hoards(Provider(log), output_dir=out)(range(20))
    assert [failure["position"] for failure in caught.value.failures] == [7]
    assert set(forwards(log)) == {*range(7), *range(8, 20)}
