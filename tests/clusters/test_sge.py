"""On a real Grid Engine: the bytes of a local run, jobs that are deleted or ended for a limit."""

import getpass
import subprocess
import sys
import time

import pytest
from drivers import DEADLINE, await_that
from outcome import merged, tell_when_it_began
from recipe import assert_same_results
from workloads import Lines, Provider, forwards, lines_of, notes, tell

from espnet3.errors import ConfigError, RunFailed, RunStopped
from espnet3.parallel.parallel import set_parallel

pytestmark = [pytest.mark.clusters, pytest.mark.usefixtures("sge_lab", "_queue_is_left_empty")]


def sge(n_workers=2, **keys):
    options = {"memory": "500MB", "interface": "lo", "queue": "cpu.q", "walltime": "0:10:00"}
    options |= keys.pop("options", {})
    return {"env": "sge", "n_workers": n_workers, "options": options, **keys}


def queue():
    out = subprocess.run(["qstat", "-u", getpass.getuser()], capture_output=True, text=True).stdout
    return [line.split()[0] for line in out.splitlines()[2:]]


@pytest.fixture
def _queue_is_left_empty():
    yield
    try:
        await_that(lambda: not queue())
    finally:
        subprocess.run(["qdel", "-f", "-u", getpass.getuser()], capture_output=True)


def test_same_bytes_as_a_local_run(log, out, record_property):
    began = time.time()
    set_parallel(sge(options={"walltime": None}))
    assert Lines(Provider(log), output_dir=out)(range(60)) == lines_of(range(60))
    assert forwards(log) == [*range(60)]
    tell_when_it_began(record_property, out, began)


def test_recipe_has_the_same_results_when_its_parallel_block_names_sge(tmp_path):
    assert_same_results(tmp_path, sge())


def test_refused_jobs_are_an_error_at_once_in_the_schedulers_words(log, out):
    set_parallel(sge(options={"queue": "cpu.k"}))
    with pytest.raises(ConfigError, match="sge has no queue 'cpu.k'; did you mean cpu.q?"):
        Lines(Provider(log), output_dir=out)(range(5))
    set_parallel(sge(options={"job_extra_directives": ["-pe nope 4"]}))
    with pytest.raises(RunStopped, match="parallel environment .?nope.? does not exist"):
        Lines(Provider(log), output_dir=out)(range(5))


def test_deleted_job_commits_what_it_has_and_is_replaced(log, out, start_driver):
    tell(log, 15, "hold")
    driver = start_driver(30, **sge(1, lease_seconds=1.0))
    await_that(lambda: notes(log, "held"), driver)
    (job,) = queue()
    subprocess.run(["qdel", job], check=True, capture_output=True)
    text = out / "logs" / f"espnet3.o{job}"
    await_that(lambda: "leaving: signal SIGUSR2" in text.read_text(), driver)
    tell(log, 15, None)
    assert driver.wait(DEADLINE) == 0
    assert forwards(log) == [*range(30)]
    assert merged(out) == lines_of(range(30))


def test_hard_walltime_counts_against_no_item(log, out, start_driver, record_property):
    tell(log, 15, "hold")
    options = {"walltime": "0:0:10", "worker_extra_args": ["--drain-after", "1000"]}
    driver = start_driver(30, **sge(1, max_kills=1, options=options))
    await_that(lambda: notes(log, "held"), driver)
    (job,) = queue()
    await_that(lambda: job not in queue(), driver)
    tell(log, 15, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(30))
    assert not (out / "failures.jsonl").exists()
    record_property("positions done again", len(forwards(log)) - 30)


def test_item_whose_job_takes_more_memory_than_it_may_is_set_aside_alone(log, out):
    class Hoards(Lines):
        @staticmethod
        def forward(idx, log, **env):
            # SGE first asks to leave, by SIGUSR2.
            hoard = (
                "from signal import *; signal(SIGUSR2, SIG_IGN); x = bytearray(200 << 20); pause()"
            )
            n_others = 12 if idx == 7 else 0
            others = [subprocess.Popen([sys.executable, "-c", hoard]) for _ in range(n_others)]
            for other in others:  # each alone may have what it has
                other.wait()
            return Lines.forward(idx, log=log, **env)

    set_parallel(sge(1, options={"resource_spec": "h_vmem=2G"}, max_kills=1))
    with pytest.raises(RunFailed, match="which took more memory than it may") as caught:
        Hoards(Provider(log), output_dir=out)(range(20))
    assert [failure["position"] for failure in caught.value.failures] == [7]
    assert set(forwards(log)) == {*range(7), *range(8, 20)}
