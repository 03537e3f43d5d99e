"""`runner.plan`: what the next call would do, from the run directory alone."""

import itertools
import os
from contextlib import suppress
from pathlib import Path

import pytest
from drivers import await_that
from workloads import Lines, Provider, Squares, forget, forwards, notes, tell

from espnet3.errors import ConfigError, IdentityChanged, RunFailed
from espnet3.parallel.engine.directory import read_summary
from espnet3.parallel.parallel import set_parallel

ONE_ITEM_A_LEASE = 1e-6  # seconds


def files(out):
    """Every file of a run with what tells of a change."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in Path(out).rglob("*")}


def planned(runner, n_items, **more):
    """Plan a call, and see that it did nothing."""
    before = files(runner.output_dir)
    plan = runner.plan(range(n_items), **more)
    assert files(runner.output_dir) == before
    assert notes(runner.provider.config["log"], "builds") == []
    return plan


def done_by(runner, n_items):
    """The items that the next call really does."""
    log = runner.provider.config["log"]
    forget(log)
    with suppress(RunFailed):
        runner(range(n_items))
    return forwards(log)


def positions(ranges):
    return [p for first, stop in ranges for p in range(first, stop)]


def begun(log, out, n_items, limit, runner=Squares, **run):
    """A run that has done its first items."""
    set_parallel({"n_workers": 1}, {"limit": limit, **run})
    runner(Provider(log), output_dir=out)(range(n_items))
    set_parallel({"n_workers": 1}, run)
    Path(log, "builds").unlink()
    return runner(Provider(log), output_dir=out)


def test_a_run_that_has_not_begun(log, out):
    plan = planned(Squares(Provider(log), output_dir=out, batch_size=8), 20)
    assert str(plan).splitlines() == [
        f"run directory: {out}",
        "items: 20, 3 batches of 8",
        "batches: by count, as the data knows no durations",
        "done: 0",
        "left: 20 in 3 batches",
        "workers: 1",
        "time: not known: nothing was measured yet, and the data knows no durations",
    ]
    assert not out.exists()


def test_what_is_left_is_what_the_next_call_does(log, out):
    runner = begun(log, out, 20, limit=7)
    plan = planned(runner, 20)
    assert positions(plan.outlook.done) == [*range(7)]
    assert positions(plan.outlook.left) == done_by(runner, 20)
    forget(log)
    Path(log, "builds").unlink()
    plan = planned(runner, 20)
    assert "left: nothing (finished; it is merged again)" in str(plan)
    assert done_by(runner, 20) == []


def test_a_limit_counts_as_in_the_call(log, out):
    runner = begun(log, out, 20, limit=4)
    set_parallel(None, {"limit": 10})
    plan = planned(runner, 20)
    assert "items: 20, of which this call does the first 10\n" in str(plan)
    assert positions(plan.outlook.left) == done_by(runner, 20) == [*range(4, 10)]


def test_failed_items_are_tried_again_and_killers_are_not(log, out, two_workers):
    tell(log, 3, "raise")
    tell(log, 5, "kill")
    runner = Lines(Provider(log), output_dir=out)
    with pytest.raises(RunFailed):
        runner(range(10))
    Path(log, "builds").unlink()
    set_parallel({"n_workers": 1})
    plan = planned(runner, 10)
    assert positions(plan.outlook.left) == done_by(runner, 10) == [3]
    assert (plan.outlook.retried, plan.outlook.quarantined) == ((3,), {5: "#5"})
    told = "not tried again before max_kills is raised: 1 (#5); only `on_error: skip` publishes "
    assert told in str(plan)
    set_parallel({"n_workers": 2}, {"max_kills": 9})
    assert positions(runner.plan(range(10)).outlook.left) == [3, 5]


def test_shards_that_are_gone_or_only_offered_count_as_they_will(log, out):
    runner = begun(log, out, 20, limit=3, lease_seconds=ONE_ITEM_A_LEASE)
    set_parallel(None, {"limit": 9})
    done_by(runner, 20)
    set_parallel(None, {})
    ledger = out / "ledger.2.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:-1]))  # its owner died before it had written this one
    next(path for path in sorted(out.glob("split.*"))).rename(out / "away")
    Path(log, "builds").unlink()
    plan = planned(runner, 20)
    assert positions(plan.outlook.left) == done_by(runner, 20)
    assert positions(plan.outlook.left)[0] == 0
    assert positions(plan.outlook.left)[-11:] == [*range(9, 20)]


def test_what_would_be_refused_is_said_in_the_same_words(log, out):
    begun(log, out, 20, limit=7)
    for runner, n_items in [
        (Squares(Provider(log), output_dir=out), 21),
        (Squares(Provider(log, beam=2), output_dir=out), 20),
    ]:
        plan = planned(runner, n_items)
        with pytest.raises(IdentityChanged) as caught:
            runner(range(n_items))
        assert plan.outlook.refusal == str(caught.value)
        assert f"would be refused: {out} " in str(plan)
    set_parallel(None, {"accept_changes": True})
    plan = planned(runner, 20)
    assert plan.outlook.refusal == ""
    assert "accepted: config.beam" in str(plan)
    set_parallel(None, {"resume": False})
    plan = planned(runner, 20)
    assert "there is a run; it would be set aside\n" in str(plan)
    assert positions(plan.outlook.left) == [*range(20)]


def test_damaged_files_are_said(log, out):
    runner = begun(log, out, 20, limit=7)
    (out / "manifest.json").write_text("{")
    assert "would be refused: " + str(out / "manifest.json") in str(planned(runner, 20))


def test_the_driver_that_has_the_run_is_named(log, out, start_driver):
    tell(log, 3, "hold")
    driver = start_driver(10, n_workers=1)
    await_that(lambda: notes(log, "held"), driver)
    plan = Lines(Provider(log), output_dir=out).plan(range(10))
    assert f"in use by pid {driver.pid} on " in str(plan)
    driver.kill()
    driver.wait()
    assert "in use" not in str(Lines(Provider(log), output_dir=out).plan(range(10)))


@pytest.mark.parametrize(("n_workers", "n_busy"), [(1, 1), (2, 2), (40, 13)])
def test_time_is_what_the_run_has_taken_so_far(log, out, n_workers, n_busy):
    runner = begun(log, out, 20, limit=7)
    took = read_summary(out).forward_seconds
    assert took > 0
    set_parallel({"n_workers": n_workers})
    plan = planned(runner, 20)
    assert plan.prediction.seconds == pytest.approx(took / 7 * 13 / n_busy)
    assert f"on {n_busy} worker" in str(plan)
    assert "measured over 7 items" in str(plan)


def test_time_with_known_durations_is_bounded_by_the_longest_item(log, out):
    runner = begun(log, out, 20, limit=7)
    factor = read_summary(out).forward_seconds / 7
    set_parallel({"n_workers": 2})
    plan = planned(runner, 20, durations=[1.0] * 19 + [3.0])
    assert plan.prediction.seconds == pytest.approx(factor * 15 / 2)
    assert "15 s of audio, at the real-time factor" in str(plan)
    plan = planned(runner, 20, durations=[1.0] * 19 + [300.0])
    assert plan.prediction.seconds == pytest.approx(factor * 300)


def test_nothing_is_predicted_that_was_not_measured(log, out):
    runner = Squares(Provider(log), output_dir=out)
    set_parallel({"n_workers": 2})
    plan = planned(runner, 3, durations=[60.0, 120.0, 600.0])
    assert plan.prediction.seconds is None
    assert "the busiest worker has 10 min of 13 min of audio" in str(plan)
    with pytest.raises(ConfigError, match="2 durations given for 3 items"):
        planned(runner, 3, durations=[1.0, 2.0])


def test_a_runner_without_directory_has_no_plan(log):
    with pytest.raises(ConfigError, match="has no output_dir"):
        Squares(Provider(log)).plan(range(3))


def test_the_code_that_was_edited_is_said(log, out, monkeypatch):
    codes = itertools.count()
    monkeypatch.setattr(Squares, "code_identity", lambda self: {"mine": str(next(codes))})
    runner = begun(log, out, 20, limit=7)
    assert "1 module was edited since this run began or last went on: mine. " in str(
        planned(runner, 20)
    )
    done_by(runner, 20)
    os.remove(Path(log, "builds"))
    assert "would be refused" in str(planned(runner, 20))
