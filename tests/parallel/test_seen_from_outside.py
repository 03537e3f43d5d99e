"""Runs that are looked at, stopped, retried and cleaned by somebody else."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from drivers import await_that, is_running
from workloads import Lines, Provider, Squares, forget, forwards, lines_of, notes, tell

from espnet3 import runs
from espnet3.commands.main import main
from espnet3.errors import DataError, RunFailed, RunInUse, RunStopped
from espnet3.parallel.engine import heartbeat
from espnet3.parallel.engine.stop_request import STOP, write_request
from espnet3.parallel.parallel import set_parallel
from espnet3.runs.owners import read_owner


def espnet3(*words):
    """What the command prints, and its status."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output, result.exit_code


def lines(log, out, **options):
    return Lines(Provider(log), output_dir=out, **options)


def holding(log, out, start_driver, item, n_items=10, **parallel):
    """A driver that has that item in hand, in process."""
    tell(log, item, "hold")
    driver = start_driver(n_items, n_workers=1, **parallel)
    await_that(lambda: notes(log, "held") == [str(item)], driver)
    return driver


def test_live_run_is_seen_from_outside_and_afterwards(log, out, start_driver):
    driver = holding(log, out, start_driver, 5)
    seen = runs.snapshot(out)
    assert (seen.state, seen.is_live, seen.done, seen.left) == ("running", True, 0, 10)
    assert seen.owner.pid == driver.pid
    (worker,) = seen.workers
    assert (worker.state, worker.position, worker.pid) == ("working", 5, driver.pid)
    assert "driver on" in espnet3("status", out)[0]
    tell(log, 5, None)
    assert driver.wait() == 0
    seen = runs.snapshot(out)
    assert (seen.state, seen.is_live, seen.done, seen.left) == ("done", False, 10, 0)
    assert seen.workers[0].state == "gone"
    assert seen.slowest[0].utterance == "utt5"
    assert seen.slowest[0].seconds == max(unit.seconds for unit in runs.unit_times(out))
    assert [unit.first for unit in runs.unit_times(out)] == list(range(10))
    told = json.loads(espnet3("status", out, "--json")[0])
    assert (told["state"], told["done"], told["disk_files"] > 5) == ("done", 10, True)
    assert ": done\n" in espnet3("status", out, "--watch")[0]  # nothing to wait for


def test_workers_are_seen_with_host_and_end(log, out, start_driver):
    tell(log, 3, "kill once")
    tell(log, 7, "hold")
    driver = start_driver(10, n_workers=2)
    await_that(lambda: notes(log, "held") == ["7"], driver)

    def workers():
        return {worker.state: worker for worker in runs.snapshot(out, disk=False).workers}

    await_that(lambda: {"lost", "working"} <= workers().keys(), driver)
    there = workers()
    assert "SIGKILL" in there["lost"].why
    assert there["working"].position == 7
    assert there["working"].host == os.uname().nodename
    assert is_running(there["working"].pid)
    assert there["working"].env_seconds is not None
    tell(log, 7, None)
    assert driver.wait() == 0
    assert "worker" in espnet3("logs", out, "--worker", 0)[0]
    assert espnet3("logs", out)[0].count(".log") == 2


def test_killed_driver_is_dead_until_the_next_one_comes(log, out, start_driver):
    driver = holding(log, out, start_driver, 5)
    driver.kill()
    driver.wait()
    seen = runs.snapshot(out)
    assert (seen.state, seen.is_live) == ("dead", False)
    assert str(driver.pid) in seen.reason
    text, status = espnet3("stop", out)
    assert (status, "gone already" in text) == (1, True)
    tell(log, 5, None)
    set_parallel({"n_workers": 1})
    assert lines(log, out)(range(10)) == lines_of(range(10))
    assert runs.snapshot(out).state == "done"


def test_stop_drains(log, out, start_driver):
    driver = holding(log, out, start_driver, 5)
    assert espnet3("stop", out) == (
        f"{out}: asked pid {driver.pid} on {os.uname().nodename} to stop\n",
        0,
    )
    tell(log, 5, None)
    assert driver.wait() == 128 + signal.SIGTERM
    seen = runs.snapshot(out)
    assert (seen.state, seen.done, seen.left) == ("stopped", 6, 4)
    assert "SIGTERM" in seen.reason
    assert espnet3("stop", out)[1] == 1


class StopsItself(Squares):
    """Somebody on another host asks to stop while item 3 is in hand."""

    @staticmethod
    def forward(idx, log, out):
        if idx == 3:
            write_request(Path(out), read_owner(Path(out))[0], "a test")
            await_that(lambda: not Path(out, STOP).exists())
        return Squares.forward(idx, log)


def test_request_from_another_host_drains_the_owner_that_it_names(log, out, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 0.02)
    set_parallel({"n_workers": 1})
    with pytest.raises(SystemExit) as ended:
        StopsItself(Provider(log, out=str(out)), output_dir=out)(range(10))
    assert ended.value.code == 143
    assert runs.snapshot(out).done == 4


def test_old_request_does_not_stop_the_next_start(log, out, monkeypatch):
    set_parallel({"n_workers": 1})
    lines(log, out)(range(3))
    here = json.loads((out / "ledger.1.jsonl").read_text().splitlines()[0])
    write_request(out, here, "a test")
    monkeypatch.setattr(heartbeat, "BEAT", 0.02)
    assert lines(log, out)(range(3)) == lines_of(range(3))
    assert not (out / STOP).exists()


def test_item_that_killed_too_often_is_done_after_retry(log, out, start_driver):
    tell(log, 3, "kill")
    for expected in (-signal.SIGKILL, 1, 1):  # killed; then it is not tried any more
        driver = start_driver(5, n_workers=1, max_kills=1)
        assert driver.wait() == expected
    (failed,) = runs.snapshot(out).failures
    assert (failed.utterance, failed.error, failed.kills) == ("#3", "WorkerKilled", 1)
    text, status = espnet3("retry", out, "--item", "utt4")
    assert (status, "utt4" in text) == (1, True)
    text, status = espnet3("retry", out)
    assert status == 0
    assert f"cd {os.getcwd()} && {sys.executable}" in text  # of the command, which is no run.py
    seen = runs.snapshot(out)
    assert (seen.state, seen.failed, seen.left) == ("stopped", 0, 1)
    tell(log, 3, None)
    assert start_driver(5, n_workers=1, max_kills=1).wait() == 0
    assert runs.snapshot(out).done == 5


def test_retry_runs_the_recipe_again(log, out, tmp_path):
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    there = Path(__file__).parent
    (recipe / "run.py").write_text(
        f"import sys; sys.path.insert(0, {str(there)!r})\n"
        "from workloads import Lines, Provider\n"
        f"Lines(Provider({str(log)!r}), output_dir={str(out)!r})(range(5))\n"
    )
    tell(log, 3, "raise")
    root = str(Path(runs.__file__).parents[2])
    environ = {**os.environ, "PYTHONPATH": root}
    first = subprocess.run([sys.executable, "run.py"], cwd=recipe, env=environ, capture_output=True)
    assert (first.returncode, runs.snapshot(out).failed) == (1, 1)
    tell(log, 3, None)
    forget(log)
    command = [sys.executable, "-m", "espnet3", "retry", str(out), "--item", "utt3"]
    again = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "running: cd" in again.stdout
    assert forwards(log) == [3]
    assert runs.snapshot(out).state == "done"


def test_live_run_is_neither_retried_nor_cleaned(log, out, start_driver):
    tell(log, 2, "raise")
    driver = holding(log, out, start_driver, 5)
    await_that(lambda: runs.snapshot(out, disk=False).failed == 1, driver)
    for change in (runs.clear_failures, runs.clean):
        with pytest.raises((RunInUse, DataError)):
            change(out)
    tell(log, 5, None)
    assert driver.wait() == 1
    assert [item.utterance for item in runs.snapshot(out).failures] == ["utt2"]


def test_clean_run_stays_finished(log, out):
    set_parallel({"n_workers": 1})
    assert lines(log, out)(range(5)) == lines_of(range(5))
    assert espnet3("clean", out)[1] == 1  # it asks, and nobody answers
    assert list(out.glob("split.*"))
    assert espnet3("clean", out, "--yes") == (f"{out}: removed 1 shards\n", 0)
    assert not list(out.glob("split.*"))
    forget(log)
    assert lines(log, out)(range(5)) is None
    assert (forwards(log), (out / "text").read_bytes() != b"") == ([], True)
    assert (runs.snapshot(out).state, runs.snapshot(out).done) == ("done", 5)
    assert "finished" in str(lines(log, out).plan(range(5)))
    assert espnet3("clean", out, "--yes")[1] == 0
    (out / "text").unlink()
    with pytest.raises(RunStopped, match=r"text is gone.*resume: false"):
        lines(log, out)(range(5))
    assert lines(log, out, resume=False)(range(5)) == lines_of(range(5))
    assert forwards(log) == list(range(5))


def test_what_is_not_finished_or_not_merged_is_not_cleaned(log, out, tmp_path):
    set_parallel({"n_workers": 1})
    tell(log, 2, "raise")
    with pytest.raises(RunFailed):
        lines(log, out)(range(5))
    with pytest.raises(DataError, match="1 of its items failed"):
        runs.clean(out)
    tell(log, 2, None)
    Squares(Provider(log), output_dir=tmp_path / "json")(range(5))
    with pytest.raises(DataError, match="nothing but shards"):
        runs.clean(tmp_path / "json")
    text, status = espnet3("clean", tmp_path, "--yes")
    assert (status, text.count("Error")) == (1, 1)
    assert lines(log, out)(range(5)) == lines_of(range(5))


def test_logs_tell_of_an_item(log, out):
    set_parallel({"n_workers": 1})
    tell(log, 2, "raise")
    with pytest.raises(RunFailed):
        lines(log, out)(range(5))
    for words in (["--item", "utt2"], ["--item", "#2"], ["--failed"]):
        text, status = espnet3("logs", out, *words)
        assert status == 0
        assert "utt2 (position 2) failed in forward" in text
        assert "ValueError: item 2 is bad" in text
    assert "utt4 is done" in espnet3("logs", out, "--item", "utt4")[0]
    assert espnet3("logs", out, "--item", "utt99")[1] == 1
    assert espnet3("logs", out, "--worker", "7")[1] == 1


def test_runs_below_a_directory_are_found(log, out):
    set_parallel({"n_workers": 1})
    for name in ("dev", "test"):
        lines(log, out, shard_subdir=name)(range(2))
    assert runs.find_runs(out) == [out / "dev", out / "test"]
    assert runs.find_runs(out / "dev") == [out / "dev"]
    assert espnet3("status", out)[0].count(": done") == 2
    assert espnet3("status", log)[1] == 1
    (out / "dev" / "manifest.json").write_text("?")
    text, status = espnet3("status", out)
    assert (status, "manifest.json is damaged" in text, text.count(": done")) == (1, True, 1)


def test_log_that_cannot_be_written_costs_no_run(log, out, caplog):
    out.mkdir()
    (out / "events.jsonl").symlink_to("/dev/full")
    set_parallel({"n_workers": 1})
    assert lines(log, out)(range(5)) == lines_of(range(5))
    assert caplog.text.count("events.jsonl is not complete") == 1
    (out / "events.jsonl").unlink()
    seen = runs.snapshot(out)  # as of a former version, which wrote none
    assert (seen.state, seen.done, seen.workers) == ("done", 5, ())


def test_torn_and_unknown_lines_are_left_out(log, out):
    set_parallel({"n_workers": 1})
    lines(log, out)(range(5))
    before = runs.read_events(out)
    with (out / "events.jsonl").open("a") as f:
        f.write('{"time": 1.0, "epoch": 1, "event": "of a newer version", "x": 1}\n[]\n{"time": 1')
    assert [event.event for event in runs.read_events(out)[len(before) :]] == ["of a newer version"]
    assert runs.snapshot(out).state == "done"
    assert lines(log, out)(range(5)) == lines_of(range(5))  # its lines do not stick to the torn one
    assert [e.event for e in runs.read_events(out) if e.epoch == 2][0] == "start"
    before = runs.read_events(out)
    with (out / "events.jsonl").open("a") as f:  # by a former owner that wakes up
        f.write('{"time": 1.0, "epoch": 1, "event": "state", "state": "running"}\n')
    assert runs.read_events(out) == before
    assert runs.snapshot(out).state == "done"


def test_times_of_batches_belong_to_their_positions(log, out):
    set_parallel({"n_workers": 1})
    durations = [float(i) for i in range(10)]
    lines(log, out, batch_size=4)(range(10), durations=durations)
    units = list(runs.unit_times(out))
    assert [(list(u.positions), u.audio) for u in units] == [
        ([9, 8, 7, 6], 30.0),
        ([5, 4, 3, 2], 14.0),
        ([1, 0], 1.0),
    ]
    seen = runs.snapshot(out)
    assert (seen.audio, seen.audio_done) == (45.0, 45.0)


def test_progress_line_leaves_no_trace_between_what_is_logged(log, out, start_driver):
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    said = bytearray()

    def read():
        try:
            while data := os.read(master, 4096):
                said.extend(data)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    tell(log, 5, "hold")
    tell(log, 2, "raise")
    driver = start_driver(10, terminal=slave, n_workers=1)
    os.close(slave)
    await_that(lambda: b"4 of 10 items done (40 %), 1 failed" in said, driver)
    tell(log, 5, None)
    assert driver.wait() == 1
    reader.join()
    os.close(master)
    screen = on_screen(said.decode())
    assert not any("items done" in row for row in screen)  # at the end it is gone
    failed = [row for row in screen if "utt2 (position 2) failed" in row]
    assert len(failed) == 1
    assert failed[0].startswith("utt2")


def on_screen(text):
    """The rows of a terminal on which that was written."""
    rows, column = [[]], 0
    text = text.replace("\x1b[K", "\0")
    for character in text:
        row = rows[-1]
        if character == "\r":
            column = 0
        elif character == "\n":
            rows.append([])
        elif character == "\0":
            del row[column:]
        else:
            row[column : column + 1] = [character]
            column += 1
    return ["".join(row) for row in rows]
