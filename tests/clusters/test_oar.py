"""On a real OAR: the bytes of a local run, jobs that are told to leave or deleted, a walltime."""

import subprocess
import time

import pytest
from drivers import DEADLINE, await_that
from outcome import driver_says, merged, tell_when_it_began
from recipe import assert_same_results
from workloads import Lines, Provider, forwards, lines_of, notes, tell

from espnet3.errors import RunStopped
from espnet3.parallel.backends.job_states import oar_jobs
from espnet3.parallel.parallel import set_parallel

pytestmark = [
    pytest.mark.more_clusters,
    pytest.mark.usefixtures("oar_lab", "_queue_is_left_empty"),
    pytest.mark.timeout(240),  # OAR takes seconds for each start and end of a job
]


def oar(n_workers=2, **keys):
    options = {"memory": "500MB", "interface": "lo", "walltime": "0:10:00"}
    options |= keys.pop("options", {})
    return {"env": "oar", "n_workers": n_workers, "options": options, **keys}


def queue():
    """Ids of all jobs that are not over."""
    out = subprocess.run(["oarstat"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in out.splitlines()[2:]]


@pytest.fixture
def _queue_is_left_empty():
    yield
    try:
        await_that(lambda: not queue())
    finally:
        jobs = queue()
        if jobs:
            subprocess.run(["oardel", *jobs], capture_output=True)


def test_same_bytes_as_a_local_run(log, out, record_property):
    began = time.time()
    set_parallel(oar())
    assert Lines(Provider(log), output_dir=out)(range(60)) == lines_of(range(60))
    assert forwards(log) == [*range(60)]
    tell_when_it_began(record_property, out, began)


def test_recipe_has_the_same_results_when_its_parallel_block_names_oar(tmp_path):
    assert_same_results(tmp_path, oar())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"queue": "nope"}, "The queue nope does not exist"),
        ({"cores": 9}, "There are not enough resources for your request"),
    ],
)
def test_refused_jobs_are_an_error_at_once_in_the_schedulers_words(log, out, options, words):
    set_parallel(oar(options=options))
    with pytest.raises(RunStopped, match=words):
        Lines(Provider(log), output_dir=out)(range(5))


def test_jobs_that_die_at_start_end_the_run_with_their_log(log, out):
    set_parallel(oar(1, options={"job_script_prologue": ["echo no such module; exit 3"]}))
    with pytest.raises(RunStopped, match="ended before their worker had reached(.|\n)*no such mod"):
        Lines(Provider(log), output_dir=out)(range(5))


def test_pending_jobs_are_told_with_what_oar_says_of_them(log, out, start_driver):
    command = ["oarsub", "-l", "/nodes=1/core=4,walltime=0:10:00", "-O/dev/null", "-E/dev/null"]
    subprocess.run([*command, "sleep 600"], check=True, capture_output=True)
    (other,) = queue()
    await_that(lambda: str(oar_jobs([other])[other]).startswith("running"))
    driver = start_driver(5, **oar(1, worker_start_timeout=15))
    assert driver.wait(DEADLINE) == 1
    assert "waiting for a worker: job 47" in driver_says(log)
    assert "waiting (R=1,W=0:10:0,J=B" in driver_says(log)
    assert "RunStopped: no worker came within 15 s: job 47" in driver_says(log)
    subprocess.run(["oardel", other], check=True, capture_output=True)


def test_job_that_is_told_to_leave_commits_what_it_has_and_is_replaced(log, out, start_driver):
    tell(log, 15, "hold")
    driver = start_driver(30, **oar(1))
    await_that(lambda: notes(log, "held"), driver)
    (job,) = queue()
    subprocess.run(["oardel", "--checkpoint", job], check=True, capture_output=True)
    text = out / "logs" / f"espnet3-{job}.err"
    await_that(lambda: "leaving: signal SIGUSR2" in text.read_text(), driver)
    tell(log, 15, None)
    assert driver.wait(DEADLINE) == 0
    assert forwards(log) == [*range(30)]
    assert merged(out) == lines_of(range(30))
    assert f"job {job} (worker oar-0) is over; submitting another" in driver_says(log)


def test_deleted_job_counts_against_no_item_and_is_replaced(
    log, out, start_driver, record_property
):
    tell(log, 15, "hold once")
    driver = start_driver(30, **oar(1, max_kills=1))
    await_that(lambda: notes(log, "held"), driver)
    (job,) = queue()
    subprocess.run(["oardel", job], check=True, capture_output=True)
    await_that(lambda: job not in queue(), driver)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(30))
    assert not (out / "failures.jsonl").exists()
    record_property("positions done again", len(forwards(log)) - 30)


def test_walltime_counts_against_no_item(log, out, start_driver):
    tell(log, 15, "hold once")
    options = {"walltime": "0:0:15", "worker_extra_args": ["--drain-after", "1000"]}
    driver = start_driver(30, **oar(1, max_kills=1, options=options))
    await_that(lambda: notes(log, "held"), driver)
    (job,) = queue()
    await_that(lambda: job not in queue(), driver)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(30))
    assert not (out / "failures.jsonl").exists()


def test_killed_driver_leaves_no_job(log, out, start_driver):
    tell(log, 15, "hold")
    driver = start_driver(30, **oar(1, lease_seconds=1e-6, options={"death_timeout": 5}))
    await_that(lambda: notes(log, "held"), driver)
    driver.kill()
    driver.wait()
    tell(log, 15, None)
    await_that(lambda: not queue())
    assert start_driver(30, **oar()).wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(30))
