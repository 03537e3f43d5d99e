"""What is kept, repeated and said when drivers, workers and items die or fail."""

import errno
import json
import os
import re
import signal
import traceback
from collections import Counter
from pathlib import Path

import pytest
from drivers import DEADLINE, await_that, is_running
from workloads import (
    Awkward,
    Lines,
    Provider,
    Squares,
    forget,
    forwards,
    lines_of,
    notes,
    pids,
    tell,
)

from espnet3.errors import RecordRejected, RunFailed, RunInUse, RunStopped
from espnet3.parallel.engine.directory import read_summary
from espnet3.parallel.parallel import parallel_session, set_parallel


def committed(out):
    """Positions of all shards on disk, named by a ledger or not."""
    records = [json.loads(path.read_text()) for path in out.glob("split.*/done")]
    return {i for r in records for i in range(r["first"], r["last"] + 1)}


def failing(call):
    """The RunFailed that a call ends with."""
    with pytest.raises(RunFailed) as caught:
        call()
    return caught.value


def failed_positions(error):
    return [failure["position"] for failure in error.failures]


def failure_log(out):
    return [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]


# drivers that die


@pytest.mark.parametrize(
    # On two workers, leases of one item each, so that one worker cannot hold both items.
    ("before", "after", "lease_seconds"),
    [(1, 2, 1e-3), (2, 1, 1e-6)],
)
def test_killed_driver_loses_only_what_was_in_flight(
    log, out, start_driver, cluster, before, after, lease_seconds
):
    with parallel_session(run={"limit": 20}):
        Lines(Provider(log), output_dir=out)(range(60))
    for item in (40, 57):
        tell(log, item, "hold")
    driver = start_driver(60, n_workers=before, lease_seconds=lease_seconds)
    await_that(lambda: len(notes(log, "held")) == before, driver)
    begun, kept = set(forwards(log)), committed(out)
    driver.kill()
    driver.wait()
    await_that(lambda: not any(map(is_running, pids(log) - {os.getpid(), driver.pid})))
    for item in (40, 57):
        tell(log, item, None)
    assert kept >= set(range(20))
    assert 40 in begun - kept
    assert read_summary(out).finished is False

    set_parallel({"n_workers": after})
    assert Lines(Provider(log), output_dir=out)(range(60)) == lines_of(range(60))
    done = Counter(forwards(log))
    assert set(done) == set(range(60))
    assert {item for item, times in done.items() if times > 1} == begun - kept
    assert max(done.values()) == 2
    assert read_summary(out).finished is True


def test_driver_that_dies_again_and_again_gets_there(log, out, start_driver):
    deadly = [0, 5, 6, 19]
    for item in deadly:
        tell(log, item, "kill once")
    for _ in deadly:
        assert start_driver(20, lease_seconds=1e-6).wait(DEADLINE) == -signal.SIGKILL
    assert start_driver(20).wait(DEADLINE) == 0
    assert (out / "text").read_bytes() + (out / "ids").read_bytes() == lines_of(range(20))
    assert forwards(log) == sorted([*range(20), *deadly])


def test_item_that_ends_the_driver_is_set_aside_at_the_third_start(log, out, start_driver):
    tell(log, 5, "kill")
    for _ in range(2):
        assert start_driver(12).wait(DEADLINE) == -signal.SIGKILL
    assert start_driver(12).wait(DEADLINE) == 1
    text = (log / "driver.txt").read_text()
    assert "1 of 12 items failed (1 WorkerKilled); 11 are done" in text
    assert forwards(log).count(5) == 2
    tell(log, 5, None)
    forget(log)
    assert start_driver(12).wait(DEADLINE) == 1  # it is not tried a third time
    assert forwards(log) == []
    assert start_driver(12, max_kills=3).wait(DEADLINE) == 0
    assert forwards(log) == [5]
    assert (out / "text").read_bytes() + (out / "ids").read_bytes() == lines_of(range(12))


def test_second_driver_is_told_who_owns_the_run(log, out, start_driver):
    tell(log, 3, "hold")
    driver = start_driver(10)
    await_that(lambda: notes(log, "held"), driver)
    for resume in (True, False):
        with pytest.raises(RunInUse, match=f"is owned by pid {driver.pid} on "):
            Lines(Provider(log), output_dir=out, resume=resume)(range(10))
    tell(log, 3, None)
    assert driver.wait(DEADLINE) == 0
    assert forwards(log) == list(range(10))
    assert Lines(Provider(log), output_dir=out)(range(10)) == lines_of(range(10))


def test_second_call_of_the_same_process_is_refused(log, out):
    class Nested(Squares):
        def merge(self, shard_dirs):
            with pytest.raises(RunInUse, match="another runner call of this process"):
                Squares(self.provider, output_dir=out)(range(3))
            return super().merge(shard_dirs)

    assert Nested(Provider(log), output_dir=out)(range(3)) == [0, 1, 4]


# workers that die


def test_killed_workers_are_replaced(log, out, two_workers):
    tell(log, 3, "kill once")
    tell(log, 30, "kill once")
    assert Lines(Provider(log), output_dir=out)(range(50)) == lines_of(range(50))
    done = Counter(forwards(log))
    assert done[3] == done[30] == 2
    assert len(pids(log)) >= 3
    assert os.getpid() not in pids(log)


def test_item_that_always_kills_is_set_aside(log, out, two_workers, caplog):
    tell(log, 7, "kill")
    runner = Lines(Provider(log), output_dir=out)
    error = failing(lambda: runner(range(30)))
    assert failed_positions(error) == [7]
    assert error.failures[0]["error"] == "WorkerKilled"
    row = r"^  #7 +7  -     WorkerKilled: 2 workers died in this item \(the last one killed by "
    assert re.search(row + r"signal 9 \(SIGKILL\)\)$", str(error), re.M)
    assert failure_log(out)[0]["step"] is None  # it may have been forward, or write_record
    assert str(error).splitlines()[3:6] == [
        f"What the workers said: {out / failure_log(out)[0]['log']}.",
        "Those with WorkerKilled are not tried again, also by mended code, before `max_kills` (in "
        "`run:`; now 2) is raised.",
        "Run the same again with `on_error: skip` (in `run:`, or in what set_parallel is given) to "
        "publish without them.",
    ]
    assert committed(out) == set(range(30)) - {7}
    assert Counter(forwards(log))[7] == 2

    forget(log)  # it is not tried again, which would kill again
    assert failed_positions(failing(lambda: runner(range(30)))) == [7]
    with parallel_session(run={"on_error": "skip"}):
        assert runner(range(30)) == lines_of(i for i in range(30) if i != 7)
    assert forwards(log) == []
    assert "tries them again, but not the 1 with WorkerKilled before max_kills is" in caplog.text


def test_items_that_killed_and_items_that_failed_are_told_apart(log, out, cluster):
    set_parallel({"n_workers": 2, "max_kills": 1})
    tell(log, 3, "kill")
    tell(log, 9, "raise")
    error = failing(lambda: Lines(Provider(log), output_dir=out)(range(30)))
    lines = str(error).splitlines()
    killed = failure_log(out)[0 if failure_log(out)[0]["position"] == 3 else 1]
    place = out / killed["log"]
    assert f"Tracebacks: {out / 'failures.jsonl'}. What the workers said: {place}." in lines
    assert any(line.startswith("Those with WorkerKilled are not tried again") for line in lines)
    assert any(
        line.startswith("Run the same again to retry the others (1), or with") for line in lines
    )


def test_batch_that_kills_is_taken_apart(log, out, cluster):
    tell(log, 6, "kill")
    set_parallel({"n_workers": 2, "max_kills": 1})
    runner = Lines(Provider(log), output_dir=out, batch_size=4)
    assert failed_positions(failing(lambda: runner(range(12)))) == [6]
    assert committed(out) == set(range(12)) - {6}


def test_worker_that_dies_at_a_commit_blames_no_item(log, out, cluster):
    class Deadly(Lines):
        @staticmethod
        def close_writers(writers, state, log):
            if 5 in range(state["first"], state["first"] + len(state["records"])):
                flag = Path(log) / "died"
                if not flag.exists():
                    flag.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            return Lines.close_writers(writers, state)

    set_parallel({"n_workers": 2, "max_kills": 1})
    assert Deadly(Provider(log), output_dir=out)(range(10)) == lines_of(range(10))
    assert (log / "died").exists()


# items that fail


def test_exception_costs_its_item_alone_and_is_told_in_full(log, out, n_workers):
    tell(log, 5, "raise")
    runner = Lines(Provider(log), output_dir=out)
    error = failing(lambda: runner(range(20)))
    text = str(error)
    assert "1 of 20 items failed (1 ValueError); 19 are done" in text
    assert re.search(r"^  utt5 +5  forward  ValueError: item 5 is bad$", text, re.M)
    assert str(out / "failures.jsonl") in text
    assert "on_error: skip" in text
    assert isinstance(error.__cause__, ValueError)
    assert error.__cause__.args == ("item 5 is bad",)
    assert "in misbehave" in "".join(traceback.format_exception(error.__cause__))
    assert failed_positions(error) == [5]
    assert forwards(log) == list(range(20))
    assert committed(out) == set(range(20)) - {5}
    assert notes(log, "merges") == []
    (line,) = failure_log(out)
    assert (line["utterance"], line["position"], line["step"]) == ("utt5", 5, "forward")
    assert "in misbehave" in line["traceback"]


def test_next_run_retries_only_what_failed(log, out, n_workers):
    for item in (5, 12):
        tell(log, item, "raise")
    runner = Lines(Provider(log), output_dir=out)
    assert failed_positions(failing(lambda: runner(range(20)))) == [5, 12]
    forget(log)
    tell(log, 5, None)
    assert failed_positions(failing(lambda: runner(range(20)))) == [12]
    assert forwards(log) == [5, 12]
    forget(log)
    tell(log, 12, None)
    assert runner(range(20)) == lines_of(range(20))
    assert forwards(log) == [12]


def test_failed_batch_is_split_until_the_bad_item_stands_alone(log, out, n_workers):
    tell(log, 6, "raise")
    runner = Lines(Provider(log), output_dir=out, batch_size=4)
    assert failed_positions(failing(lambda: runner(range(12)))) == [6]
    assert [(f["position"], f["last"]) for f in failure_log(out)] == [(4, 7), (6, 7), (6, 6)]
    assert committed(out) == set(range(12)) - {6}
    forget(log)
    tell(log, 6, None)
    assert runner(range(12)) == lines_of(range(12))
    assert forwards(log) == [6]


@pytest.mark.parametrize("what", ["exit", "awkward"])
def test_odd_exceptions_cost_their_item_alone_too(log, out, n_workers, what):
    tell(log, 2, what)
    error = failing(lambda: Lines(Provider(log), output_dir=out)(range(6)))
    assert failed_positions(error) == [2]
    kind = {"exit": SystemExit, "awkward": Awkward}[what]
    assert error.failures[0]["error"] == kind.__name__
    if n_workers == 1 or what == "exit":
        assert isinstance(error.__cause__, kind)
    assert committed(out) == {0, 1, 3, 4, 5}


def test_skip_publishes_without_what_failed(log, out, cluster, caplog):
    for n_workers in (1, 2):
        tell(log, 5, "raise")
        place = out / str(n_workers)
        set_parallel({"n_workers": n_workers, "on_error": "skip"})
        runner = Lines(Provider(log), output_dir=place)
        assert runner(range(12)) == lines_of(i for i in range(12) if i != 5)
        assert "utt5 (position 5) failed in forward: ValueError" in caplog.text
        forget(log)
        assert runner(range(12)) == lines_of(i for i in range(12) if i != 5)
        assert forwards(log) == [5]  # it was tried again, and nothing else was
        assert "published 11 of 12 items" in caplog.text
        tell(log, 5, None)
        forget(log)
        assert runner(range(12)) == lines_of(range(12))
        assert forwards(log) == [5]
        forget(log)


def test_skip_with_nothing_left(log, out):
    tell(log, 0, "raise")
    set_parallel({"on_error": "skip"})
    assert Squares(Provider(log), output_dir=out)([0]) == []


def test_raise_stops_at_once(log, out):
    tell(log, 5, "raise")
    tell(log, 7, "raise")
    set_parallel({"on_error": "raise"})
    runner = Lines(Provider(log), output_dir=out)
    error = failing(lambda: runner(range(20)))
    assert failed_positions(error) == [5]
    assert "stopped early: on_error is raise" in str(error)
    assert forwards(log) == list(range(6))
    assert committed(out) == set(range(5))
    assert "Mend the cause and run the same again: it does these and the 14 left." in str(error)
    for item in (5, 7):
        tell(log, item, None)
    forget(log)
    assert runner(range(20)) == lines_of(range(20))
    assert forwards(log) == list(range(5, 20))


@pytest.mark.parametrize("says_it", ["runner", "config"])
def test_who_starts_over_is_told_to_leave_that_out(log, out, says_it):
    run = {"resume": False} if says_it == "config" else {}
    runner = Lines(Provider(log), output_dir=out, resume=says_it == "config")
    tell(log, 5, "raise")
    with parallel_session(run=run):
        error = failing(lambda: runner(range(20)))
    assert "Run the same again without `resume: false` to retry just these, or" in str(error)
    with parallel_session(run={**run, "on_error": "raise"}):
        error = failing(lambda: runner(range(20)))
    assert "run the same again without `resume: false`: it does these and the 14" in str(error)


def test_raise_stops_all_workers(log, out, cluster):
    tell(log, 0, "raise")
    set_parallel({"n_workers": 2, "on_error": "raise"})
    error = failing(lambda: Lines(Provider(log), output_dir=out)(range(50)))
    assert failed_positions(error) == [0]
    assert "stopped early: on_error is raise" in str(error)
    assert isinstance(error.__cause__, ValueError)


def test_max_failures(log, out):
    for item in (2, 4, 6):
        tell(log, item, "raise")
    set_parallel({"max_failures": 1})
    error = failing(lambda: Lines(Provider(log), output_dir=out)(range(10)))
    assert failed_positions(error) == [2, 4]
    assert "stopped early: more than max_failures = 1 items failed" in str(error)
    assert forwards(log) == list(range(5))


def test_three_alike_without_any_success_stop_the_run(log, out, n_workers):
    for item in range(100):
        tell(log, item, "raise")
    error = failing(lambda: Lines(Provider(log), output_dir=out)(range(100)))
    assert "the first 3 items all failed with ValueError" in str(error)
    assert len(forwards(log)) <= 2 + n_workers


# hooks that fail


def writing(error_of):
    """A runner whose `write_record` raises for utterance 5, after half a line was written."""

    class Failing(Lines):
        @staticmethod
        def write_record(writers, result, state, **env):
            if result["utt_id"] == "utt5":
                error = error_of()
                if not isinstance(error, RecordRejected):
                    writers["text"].write("half a li")
                raise error
            Lines.write_record(writers, result, state)

    return Failing


@pytest.mark.parametrize("error_class", [RecordRejected, KeyError])
def test_record_that_cannot_be_written_costs_its_item_alone(log, out, n_workers, error_class):
    runner = writing(lambda: error_class("no text"))(Provider(log), output_dir=out)
    error = failing(lambda: runner(range(10)))
    assert failed_positions(error) == [5]
    assert re.search(rf"^  utt5 +5  write_record  {error_class.__name__}: ", str(error), re.M)
    assert isinstance(error.__cause__, error_class)
    if error_class is RecordRejected:  # nothing else had to be done twice
        assert forwards(log) == list(range(10))
    with parallel_session(run={"on_error": "skip"}):
        assert runner(range(10)) == lines_of(i for i in range(10) if i != 5)


def test_full_disk_stops_the_run_and_keeps_what_was_committed(log, out, n_workers):
    full = log / "full"
    full.touch()

    class OnFullDisk(Lines):
        @staticmethod
        def write_record(writers, result, state, **env):
            if result["utt_id"] == "utt5" and full.exists():
                raise OSError(errno.ENOSPC, "No space left on device")
            Lines.write_record(writers, result, state)

    runner = OnFullDisk(Provider(log), output_dir=out)
    with pytest.raises(RunStopped, match="write_record failed.*No space left") as caught:
        runner(range(10))
    assert isinstance(caught.value.__cause__, OSError)
    assert not (out / "text").exists()
    full.unlink()
    assert runner(range(10)) == lines_of(range(10))


def test_writers_that_cannot_be_opened_stop_the_run(log, out, n_workers):
    broken = log / "broken"
    broken.touch()

    def fail_first(*args, **env):
        if broken.exists():
            raise RuntimeError("no such codec")
        return Lines.open_writers(*args, **env)

    runner_class = type("Failing", (Lines,), {"open_writers": staticmethod(fail_first)})
    runner = runner_class(Provider(log), output_dir=out)
    with pytest.raises(RunStopped, match="open_writers failed.*RuntimeError: no such") as caught:
        runner(range(10))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "mend the cause and run the same command again.\n" in str(caught.value)
    runner.resume = False
    with pytest.raises(RunStopped, match="run the same command again without `resume: false`\\."):
        runner(range(10))
    runner.resume = True
    assert committed(out) == set()
    broken.unlink()
    assert runner(range(10)) == lines_of(range(10))


def test_everything_together_gives_the_bytes_of_a_calm_run(log, out, two_workers):
    for item, what in ((3, "raise"), (11, "kill once"), (25, "awkward"), (33, "exit")):
        tell(log, item, what)
    runner = Lines(Provider(log), output_dir=out, batch_size=5)
    assert failed_positions(failing(lambda: runner(range(40)))) == [3, 25, 33]
    for item in (3, 25, 33):
        tell(log, item, None)
    assert runner(range(40)) == lines_of(range(40))
    assert (out / "text").read_bytes() in lines_of(range(40))
    leftovers = {path.name for path in out.iterdir() if path.name.startswith("split.")}
    assert len(leftovers) == len(list(out.glob("split.*/done")))
