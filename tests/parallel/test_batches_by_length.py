"""Batches by length: which there are, and that nothing of them can be told from the results."""

import json
import random
import signal
from pathlib import Path

import pytest
from drivers import DEADLINE, await_that
from workloads import Lines, Provider, Squares, forget, forwards, lines_of, note, notes, tell

from espnet3 import runs
from espnet3.errors import ConfigError, DataError, IdentityChanged, LedgerError, RunFailed
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.engine import order
from espnet3.parallel.parallel import set_parallel
from espnet3.runs.logs import item_log, still_failed
from espnet3.runs.retry import clear_failures

N = 60


def lengths(seed=0, n=N):
    rng = random.Random(seed)
    return [round(rng.lognormvariate(1, 0.8), 3) for _ in range(n)]


class Batches(Squares):
    """Notes every batch."""

    @staticmethod
    def forward(idx, log):
        note(log, "batches", json.dumps(idx))
        return Squares.forward(idx, log)


def batches(log):
    return [json.loads(line) for line in notes(log, "batches")]


def squares(n=N):
    return [i * i for i in range(n)]


def failing(runner, durations):
    with pytest.raises(RunFailed) as caught:
        runner(range(len(durations)), durations)
    return caught.value


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of 20 items, of which each process has to know only what the run has kept."""
    monkeypatch.setattr(
        "espnet3.parallel.engine.work.longest_first",
        lambda durations, window, limit: order.longest_first(durations, 20, limit),
    )


# which batches


def test_batches_are_of_neighbours_of_like_length_the_longest_first(log, out, small_windows):
    set_parallel({"n_workers": 1})
    seconds = lengths()
    assert Batches(Provider(log), output_dir=out, batch_size=8)(range(N), seconds) == squares()
    longest_first = [
        sorted(range(first, first + 20), key=lambda i: (-seconds[i], i)) for first in (0, 20, 40)
    ]
    cut = [window[at : at + 8] for window in longest_first for at in (0, 8, 16)]
    assert batches(log) == cut


def test_batches_end_by_padded_seconds(log, out):
    set_parallel({"n_workers": 1}, {"batch_seconds": 12})
    seconds = [1.0, 30.0, 3.0, 5.9, 3.0, 4.0, 6.0, 1.0, 1.0, 1.0]
    runner = Batches(Provider(log), output_dir=out, batch_size=4)
    assert runner(range(10), seconds) == squares(10)
    assert batches(log) == [[1], [6, 3], [5, 2, 4], [0, 7, 8, 9]]


def test_batch_seconds_hold_in_a_run_that_began_without_an_order(log, out):
    set_parallel({"n_workers": 1}, {"limit": 2, "batch_seconds": 12})
    runner = Batches(Provider(log), output_dir=out, batch_size=4)
    runner(range(10))
    seconds = [1.0, 30.0, 3.0, 5.9, 3.0, 4.0, 6.0, 1.0, 1.0, 1.0]
    set_parallel({"n_workers": 1}, {"batch_seconds": 12})
    plan = str(runner.plan(range(10), seconds))
    assert "by count, of at most 12 s with padding, as the run that is there began so" in plan
    assert runner(range(10), seconds) == squares(10)
    assert batches(log) == [[0, 1, 2, 3], [4, 5], [6, 7], [8, 9]]


def test_batch_seconds_without_batches_is_an_error(log, out):
    set_parallel({"n_workers": 1}, {"batch_seconds": 12})
    with pytest.raises(ConfigError, match="batch_seconds is 12, but there are no batches: set "):
        Squares(Provider(log), output_dir=out)(range(3), [1.0] * 3)


# which runners


class OwnMerge(Lines):
    def merge(self, shard_dirs):
        return super().merge(shard_dirs)


class OwnMergeThatSaysSo(OwnMerge):
    per_item_output = True


class PerBatch(BaseRunner):
    per_item_output = False

    @staticmethod
    def forward(idx):
        return sum(idx)

    @staticmethod
    def write_record(writers, result, state, **env):
        state["records"].append(result)


@pytest.mark.parametrize(
    ("runner", "what"),
    [
        (Squares, "batches: by length"),
        (Lines, "batches: by length"),
        (OwnMergeThatSaysSo, "batches: by length"),
        (OwnMerge, "by count, as OwnMerge overrides merge; where it puts its records back"),
        (PerBatch, "by count, as PerBatch does not say `per_item_output = True`"),
    ],
)
def test_plan_says_which_batches_and_why(log, out, runner, what):
    set_parallel({"n_workers": 1})
    plan = runner(Provider(log), output_dir=out, batch_size=4).plan(range(N), lengths())
    assert what in str(plan)
    assert plan.batches.by_length is ("by length" in what)
    assert (plan.batches.gain > 1.3) is ("by length" in what)


def test_batches_by_count_say_that_batch_seconds_do_nothing(log, out, caplog):
    set_parallel({"n_workers": 1}, {"batch_seconds": 12})
    PerBatch(Provider(log), output_dir=out, batch_size=4)(range(N), lengths())
    assert "batch_seconds does nothing here" in caplog.text
    assert "PerBatch does not say `per_item_output = True`" in caplog.text


def test_a_runner_that_no_longer_puts_records_back_does_not_go_on(log, out):
    set_parallel({"n_workers": 1}, {"limit": 10})
    Lines(Provider(log), output_dir=out, batch_size=4)(range(N), lengths())
    set_parallel({"n_workers": 1}, {"accept_changes": True})
    runner = OwnMerge(Provider(log), output_dir=out, batch_size=4)
    with pytest.raises(IdentityChanged, match="batches by length.*does not put records back"):
        runner(range(N), lengths())
    assert "does not put records back" in runner.plan(range(N), lengths()).outlook.refusal


# results


@pytest.mark.parametrize("batch_seconds", [None, 15.0])
def test_results_are_those_of_batches_by_count(log, out, n_workers, batch_seconds, small_windows):
    set_parallel({"n_workers": n_workers}, {"batch_seconds": batch_seconds})
    lines = Lines(Provider(log), output_dir=out / "lines", batch_size=4)
    assert lines(range(N), lengths()) == lines_of(range(N))
    assert (
        Squares(Provider(log), output_dir=out / "json", batch_size=4)(range(N), lengths())
        == squares()
    )
    assert lines(range(N), lengths()) == lines_of(range(N))  # once more from the same shards


def test_a_run_goes_on_with_its_order_whatever_the_durations_are_now(log, out, small_windows):
    runner = Batches(Provider(log), output_dir=out, batch_size=4)
    kept = None
    for seed, run in enumerate(
        [{"limit": 10}, {"limit": 25, "batch_seconds": 9}, {"limit": 33}, {}]
    ):
        set_parallel({"n_workers": 1}, run)
        runner.batch_size = 4 + seed
        result = runner(range(N), lengths(seed) if seed != 2 else None)
        (path,) = out.glob("order.*.u32")
        assert kept in (None, path.read_bytes())
        kept = path.read_bytes()
    assert result == squares()
    assert forwards(log) == list(range(N))


def test_a_limit_is_of_the_first_items(log, out, small_windows):
    runner = Lines(Provider(log), output_dir=out, batch_size=4)
    set_parallel({"n_workers": 1}, {"limit": 10})
    runner(range(N), lengths())
    assert forwards(log) == list(range(10))
    set_parallel({"n_workers": 1}, {"limit": 11})
    runner(range(N), lengths())
    done = forwards(log)
    assert done == list(range(len(done)))
    assert 11 <= len(done) <= 30
    set_parallel({"n_workers": 1})
    assert runner(range(N), lengths()) == lines_of(range(N))


def test_batches_of_a_run_without_durations_stay_by_count(log, out):
    set_parallel({"n_workers": 1})
    runner = Batches(Provider(log), output_dir=out, batch_size=4)
    assert runner(range(10)) == squares(10)
    assert batches(log) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert not list(out.glob("order.*"))


# failures, and how they are named


class NoIds:
    """A dataset that knows no ids."""

    def __len__(self):
        return N


class Nameless(Provider):
    def build_env_local(self):
        return {**super().build_env_local(), "dataset": NoIds()}


@pytest.mark.parametrize("provider", [Provider, Nameless])
def test_a_failed_item_is_named_by_its_position(log, out, n_workers, provider):
    durations = lengths()
    bad = [7, 41]
    runner = Squares(provider(log), output_dir=out, batch_size=4)
    for item in bad:
        tell(log, item, "raise")
    error = failing(runner, durations)
    assert [f["position"] for f in error.failures] == bad
    assert [f["message"] for f in error.failures] == [f"item {i} is bad" for i in bad]
    assert error.debug == "runner.debug(7)"
    named = ["utt7", "utt41"] if provider is Provider else ["#7", "#41"]
    assert [f["utterance"] for f in error.failures] == named
    seen = runs.snapshot(out)
    assert [(f.position, f.utterance) for f in seen.failures] == list(zip(bad, named, strict=True))
    assert [f["position"] for f in still_failed(out)] == bad
    log_lines = [json.loads(x) for x in (out / "failures.jsonl").read_text().splitlines()]
    for entry in log_lines:
        assert set(entry["positions"] or [entry["position"]]) & set(bad)
    assert "item 41 is bad" in item_log(out, "#41")
    assert "is done, in" in item_log(out, "#40")
    with pytest.raises(DataError, match="'#8' is not among the 2 failed items"):
        clear_failures(out, "#8")
    assert clear_failures(out, "#41") == [named[1]]
    for item in bad:
        tell(log, item, None)
    forget(log)
    assert runner(range(N), durations) == squares()
    assert forwards(log) == bad


def test_what_was_left_out_leaves_a_hole_in_its_place(log, out, n_workers):
    set_parallel({"n_workers": n_workers}, {"on_error": "skip"})
    for item in (0, 13, 59):
        tell(log, item, "raise")
    good = [i for i in range(N) if i not in (0, 13, 59)]
    lines = Lines(Provider(log), output_dir=out / "lines", batch_size=8)
    assert lines(range(N), lengths()) == lines_of(good)
    results = Squares(Provider(log), output_dir=out / "json", batch_size=8)(range(N), lengths())
    assert results == [i * i for i in good]


def test_an_item_that_kills_its_workers_is_found(log, out, two_workers):
    tell(log, 23, "kill")
    runner = Lines(Provider(log), output_dir=out, batch_size=4)
    error = failing(runner, lengths())
    assert [(f["position"], f["error"]) for f in error.failures] == [(23, "WorkerKilled")]
    tell(log, 23, None)
    clear_failures(out, "#23")
    assert runner(range(N), lengths()) == lines_of(range(N))


# interruption


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("after", [1, 2])
def test_an_interrupted_run_goes_on_to_the_same_bytes(log, out, start_driver, cluster, end, after):
    tell(log, 30, "hold")
    blocks = {"batch_size": 4, "durations": lengths(), "lease_seconds": 1e-6}
    driver = start_driver(N, **blocks)
    await_that(lambda: notes(log, "held"), driver)
    driver.send_signal(end)
    tell(log, 30, None)
    assert driver.wait(DEADLINE) in (-signal.SIGKILL, -signal.SIGINT)
    n_before = len(forwards(log))
    assert 4 <= n_before < N
    set_parallel({"n_workers": after}, {"batch_seconds": 10})
    runner = Lines(Provider(log), output_dir=out, batch_size=6)
    assert runner(range(N), lengths(1)) == lines_of(range(N))
    done = forwards(log)
    assert set(done) == set(range(N))
    assert len(done) - N <= (4 if end == signal.SIGKILL else 0)  # the batch in hand


def test_a_new_run_beside_an_old_one_has_an_order_of_its_own(log, out):
    set_parallel({"n_workers": 1}, {"limit": 10})
    Lines(Provider(log), output_dir=out, batch_size=4)(range(N), lengths())
    Lines(Provider(log), output_dir=out, batch_size=4, resume=False)(range(N), lengths(1))
    assert len(list(out.glob("order.*.u32"))) == 2
    (out / "manifest.previous.json").replace(out / "manifest.json")
    set_parallel({"n_workers": 1})
    runner = Lines(Provider(log), output_dir=out, batch_size=4)
    assert runner(range(N), lengths(2)) == lines_of(range(N))
    assert len(list(out.glob("order.*.u32"))) == 1


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\0" * 4 * N)])
def test_without_its_order_a_run_is_refused(log, out, damage):
    set_parallel({"n_workers": 1}, {"limit": 10})
    runner = Lines(Provider(log), output_dir=out, batch_size=4)
    runner(range(N), lengths())
    before = {path.name for path in out.iterdir()}
    (path,) = out.glob("order.*.u32")
    damage(path)
    with pytest.raises(LedgerError, match=f"{path.name}.*`resume: false`"):
        runner(range(N), lengths())
    assert {path.name for path in out.iterdir()} <= before
    assert path.name in runner.plan(range(N), lengths()).outlook.refusal


def test_many_items_cost_nothing_without_durations(log, out):
    set_parallel({"n_workers": 1}, {"limit": 8})
    Squares(Provider(log), output_dir=out, batch_size=8)(range(100_000_000))
    assert forwards(log) == list(range(8))
