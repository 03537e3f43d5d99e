"""`espnet3 doctor` on a real Slurm: of a queue that works, and of a job that cannot run."""

import json

import pytest
from click.testing import CliRunner
from slurm_jobs import queue, slurm

from espnet3.commands.main import main

pytestmark = [pytest.mark.clusters, pytest.mark.usefixtures("slurm_lab", "queue_is_left_empty")]


def examine(place, *words, **block):
    """Call it; the checks by name, and the status."""
    config = place / "parallel.yaml"
    config.write_text(json.dumps({"parallel": slurm(1, **block)}))
    words = ("doctor", "--json", *words, "--parallel_config", str(config))
    done = CliRunner().invoke(main, words)
    told = json.loads(done.stdout)
    return {check["check"]: check for check in told["checks"]}, done.exit_code


def test_worker_is_started_as_a_job_and_compared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checks, status = examine(tmp_path, "--worker")
    problems = [check for check in checks.values() if check["level"] == "problem"]
    assert (status, problems) == (0, [])
    assert "slurm" in checks["scheduler version"]["seen"]
    assert checks["scheduler answer"]["level"] == "ok"
    assert checks["worker start"]["level"] == "ok"
    assert checks["shared directory"]["level"] == "ok"
    assert not queue()


def test_job_that_no_node_can_take_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checks, status = examine(tmp_path, "--worker", options={"memory": "500GB"})
    assert (status, checks["job"]["level"]) == (1, "problem")
    assert "the largest has 4 cores" in checks["job"]["seen"]
    assert not queue()
