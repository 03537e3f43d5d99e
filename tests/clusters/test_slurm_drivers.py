"""On a real Slurm: drivers that are interrupted, killed, or jobs themselves leave no job behind."""

import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from drivers import DEADLINE, await_that
from outcome import driver_says, merged
from slurm_jobs import call, queue, slurm
from workloads import forwards, lines_of, notes, tell

import espnet3

pytestmark = [pytest.mark.clusters, pytest.mark.usefixtures("slurm_lab", "queue_is_left_empty")]


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


def test_driver_that_is_a_job_and_is_requeued_goes_on(log, out, tmp_path):
    tell(log, 30, "hold")
    parallel = slurm(lease_seconds=1e-6, options={"death_timeout": 5})
    program = [sys.executable, str(Path(__file__).with_name("run_logged.py"))]
    script = tmp_path / "driver.sh"
    script.write_text(
        f"#!/bin/bash\nexport PYTHONPATH={Path(espnet3.__file__).parents[1]}\n"
        f"exec {shlex.join([*program, str(out), str(log), '60', json.dumps(parallel)])}\n"
    )
    options = (f"--output={log / 'driver.txt'}", "--open-mode=append")
    driver = call("sbatch", "--parsable", *options, str(script)).strip()
    await_that(lambda: notes(log, "held"))
    done = forwards(log)
    call("scontrol", "requeue", driver)
    await_that(lambda: driver in queue("PENDING"))
    tell(log, 30, None)
    call("scontrol", "update", f"jobid={driver}", "StartTime=now")
    await_that(lambda: not queue())
    assert merged(out) == lines_of(range(60))
    assert len(forwards(log)) < 60 + len(done)
