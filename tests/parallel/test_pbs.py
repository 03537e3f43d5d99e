"""Runs on commands that do as PBS does, and run jobs as processes here."""

import json
import os
import signal
import subprocess
from contextlib import suppress

import pytest
from drivers import DEADLINE, await_that
from workloads import forwards, lines_of, notes, tell

START = """#!/bin/sh
logs=$(sed -n 's/^#PBS -o //p' {place}/$1.sh)
setsid sh {place}/$1.sh > "$logs/espnet3.o$1" 2> "$logs/espnet3.e$1" < /dev/null &
echo $! > {place}/$1.pid
"""
QSUB = """#!/bin/sh
id=$(($(cat {place}/last) + 1))
echo $id > {place}/last
cp "$1" {place}/$id.sh
[ -e {place}/full ] || {place}/start $id
echo $id.vbox
"""
QSTAT = """#!/bin/sh
[ "$1" = -f ] && shift
status=0
for id; do
    pid=$(cat {place}/$id.pid 2> /dev/null)
    case "$(ps -o stat= -p "${{pid:-0}}")" in '' | Z*) state=Q ;; *) state=R ;; esac
    if [ ! -e {place}/$id.sh ] || {{ [ "$pid" ] && [ $state = Q ]; }}; then
        echo "qstat: Unknown Job Id $id.vbox" >&2
        status=153
        continue
    fi
    printf 'Job Id: %s.vbox\\n    Job_Name = espnet3\\n    job_state = %s\\n' $id $state
    [ $state = R ] || echo '    comment = Not Running: Insufficient amount of resource: ncpus'
    echo
done
exit $status
"""
QDEL = """#!/bin/sh
for id; do
    rm -f {place}/$id.sh
    [ -e {place}/$id.pid ] && kill -- -$(cat {place}/$id.pid)
done
"""


@pytest.fixture
def pbs(tmp_path, monkeypatch):
    """Where the commands are; a file `full` there keeps jobs from starting."""
    place = tmp_path / "pbs"
    place.mkdir()
    (place / "last").write_text("0")
    for name, text in {"start": START, "qsub": QSUB, "qstat": QSTAT, "qdel": QDEL}.items():
        (place / name).write_text(text.format(place=place))
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    yield place
    for job in place.glob("*.pid"):
        kill(job)


def kill(job):
    with suppress(ProcessLookupError):
        os.killpg(int(job.read_text()), signal.SIGKILL)


def on_pbs(**keys):
    options = {"memory": "500MB", "walltime": "00:10:00", "interface": "lo"}
    return {"env": "pbs", "n_workers": 1, "options": options, **keys}


def test_pending_job_shows_the_reason(log, out, pbs, start_driver):
    (pbs / "full").touch()
    driver = start_driver(20, **on_pbs())
    words = "job 1 queued (Not Running: Insufficient amount of resource: ncpus) for "
    await_that(lambda: words in (log / "driver.txt").read_text(), driver)
    subprocess.run([pbs / "start", "1"], check=True)
    assert driver.wait(DEADLINE) == 0
    assert (out / "text").read_bytes() + (out / "ids").read_bytes() == lines_of(range(20))


@pytest.mark.parametrize(
    "words", ["=>> PBS: job killed: mem 597260kb exceeded limit 512000kb", "Terminated"]
)
def test_item_is_blamed_for_its_job_only_if_pbs_ended_that_for_its_memory(
    log, out, pbs, start_driver, words
):
    tell(log, 7, "hold")
    driver = start_driver(20, **on_pbs(max_kills=1))
    await_that(lambda: notes(log, "held"), driver)
    with (out / "logs" / "espnet3.e1").open("a") as text:
        text.write(f"\n{words}\n")
    kill(pbs / "1.pid")
    await_that((pbs / "2.sh").exists, driver)
    tell(log, 7, None)
    status, failures = driver.wait(DEADLINE), out / "failures.jsonl"
    if not words.startswith("=>>"):
        assert status == 0
        assert not failures.exists()
        assert forwards(log).count(7) == 2
        return
    assert status == 1
    (failure,) = [json.loads(line) for line in failures.read_text().splitlines()]
    assert failure["position"] == 7
    assert "job 1, which took more memory than it may" in json.dumps(failure)
    assert {*forwards(log)} == {*range(20)}
