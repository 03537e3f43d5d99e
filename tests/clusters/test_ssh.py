"""Over a real ssh: the bytes of a local run, hosts that cannot be reached, drivers that end."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from drivers import DEADLINE, await_that, is_running
from outcome import merged, tell_when_it_began
from recipe import assert_same_results
from workloads import Lines, Provider, forwards, lines_of, notes, pids, tell

from espnet3.errors import RunStopped
from espnet3.parallel.parallel import set_parallel

pytestmark = pytest.mark.clusters


@pytest.fixture
def ssh(ssh_lab, log):
    def block(n_workers=2, **keys):
        options = {"hosts": ["127.0.0.1", "127.0.0.2"], "ssh_command": ssh_lab, "interface": "lo"}
        options |= keys.pop("options", {})
        return {"env": "ssh", "n_workers": n_workers, "options": options, **keys}

    yield block
    await_that(lambda: not any(map(is_running, pids(log) - {os.getpid()})))


@pytest.mark.parametrize("security", [None, False])
def test_same_bytes_as_a_local_run(log, out, ssh, security, record_property):
    began = time.time()
    # What comes before the worker leaves what is sent to it alone.
    set_parallel(ssh(3, security=security, options={"job_script_prologue": ["cat > /dev/null"]}))
    assert Lines(Provider(log), output_dir=out)(range(60)) == lines_of(range(60))
    assert forwards(log) == [*range(60)]
    assert len(list((out / "logs").glob("ssh.ssh-*.log"))) == 3
    tell_when_it_began(record_property, out, began)


def test_recipe_has_the_same_results_when_its_parallel_block_names_ssh(tmp_path, ssh):
    assert_same_results(tmp_path, ssh())


def test_host_that_cannot_be_reached_ends_the_run_with_the_words_of_ssh(log, out, ssh):
    set_parallel(ssh(2, options={"hosts": ["127.0.0.9"]}))
    with pytest.raises(RunStopped, match="127.0.0.9 port 22122: Connection refused"):
        Lines(Provider(log), output_dir=out)(range(5))


def test_the_others_go_on_without_a_host_that_cannot_be_reached(log, out, start_driver, ssh):
    tell(log, 5, "hold")
    tell(log, 15, "hold")
    driver = start_driver(20, **ssh(options={"hosts": ["127.0.0.9", "127.0.0.1"]}))
    await_that(lambda: notes(log, "held"), driver)
    await_that(lambda: "Connection refused" in (log / "driver.txt").read_text(), driver)
    tell(log, 5, None)
    tell(log, 15, None)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(20))


def nanny_of(pid):
    """The process that looks after a worker, which `ssh` has started."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^PPid:\s+(\d+)", status, re.MULTILINE)[1])


def test_worker_that_is_told_to_leave_commits_and_is_replaced(log, out, start_driver, ssh):
    tell(log, 15, "hold")
    driver = start_driver(30, **ssh(1))
    await_that(lambda: notes(log, "held"), driver)
    (pid,) = pids(log)
    os.kill(nanny_of(pid), signal.SIGTERM)
    await_that(lambda: "leaving: signal SIGTERM" in (out / "logs/ssh.ssh-0.log").read_text())
    tell(log, 15, None)
    assert driver.wait(DEADLINE) == 0
    assert forwards(log) == [*range(30)]
    assert merged(out) == lines_of(range(30))


def test_lost_host_counts_against_no_item(log, out, start_driver, ssh, record_property):
    tell(log, 15, "hold once")
    driver = start_driver(30, **ssh(1, max_kills=1))
    await_that(lambda: notes(log, "held"), driver)
    (pid,) = pids(log)
    for one in (nanny_of(pid), pid):
        os.kill(one, signal.SIGKILL)
    assert driver.wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(30))
    assert not (out / "failures.jsonl").exists()
    assert len(list((out / "logs").glob("ssh.ssh-*.log"))) == 2
    record_property("positions done again", len(forwards(log)) - 30)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_no_worker_outlives_its_driver(log, out, start_driver, ssh, number, status):
    tell(log, 15, "hold")
    driver = start_driver(30, **ssh(lease_seconds=1e-6))
    await_that(lambda: notes(log, "held"), driver)
    os.kill(driver.pid, number)
    if number != signal.SIGKILL:
        await_that(lambda: "Stopping after" in (log / "driver.txt").read_text(), driver)
    tell(log, 15, None)
    assert driver.wait(DEADLINE) == status
    await_that(lambda: not any(map(is_running, pids(log))))
    assert start_driver(30, **ssh()).wait(DEADLINE) == 0
    assert merged(out) == lines_of(range(30))
