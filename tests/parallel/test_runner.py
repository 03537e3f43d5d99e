"""Runners: what a call returns, the hooks, and going on with a run."""

import tempfile
import tracemalloc
from collections import Counter
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from workloads import (
    ByNameOnly,
    Lines,
    NeedsMore,
    PlaceInEnv,
    Provider,
    Squares,
    Totals,
    forget,
    forwards,
    lines_of,
    notes,
    tell,
)

from espnet3.errors import ConfigError, RunFailed, RunStopped
from espnet3.parallel.base_runner import BaseRunner, concatenate_shard_files
from espnet3.parallel.parallel import parallel_session, set_parallel


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


# results


@pytest.mark.parametrize("batch_size", [None, 1, 4, 100])
def test_results_are_a_list_in_the_order_of_the_items(log, out, n_workers, batch_size):
    items = [*range(20, 0, -1), 3, 3]
    runner = Squares(Provider(log), output_dir=out, batch_size=batch_size)
    assert runner(items) == [i * i for i in items]
    assert forwards(log) == sorted(items)


@pytest.mark.parametrize(
    "make",
    [
        lambda: range(5, 0, -2),
        lambda: (5, 3, 1),
        lambda: np.array([5, 3, 1]),
        lambda: iter([5, 3, 1]),
    ],
    ids=["range", "tuple", "array", "iterator"],
)
def test_items_may_come_in_any_iterable(log, make):
    assert Squares(Provider(log))(make()) == [25, 9, 1]


def test_items_may_be_any_json_values(log, n_workers):
    class Echo(BaseRunner):
        @staticmethod
        def forward(idx):
            return idx

    items = ["utt-1", {"start": 0, "stop": 3}, [1, 2], None, 1.5]
    assert Echo(Provider(log))(items) == items
    with pytest.raises(ConfigError, match="item #1 of `indices` is a object"):
        Echo(Provider(log))([1, object()])


def test_no_items(log, out, n_workers):
    assert Squares(Provider(log))([]) == []
    assert Squares(Provider(log), output_dir=out / "json", batch_size=3)([]) == []
    assert Totals(Provider(log), output_dir=out / "totals")(range(0)) == (0, 0)
    assert notes(log, "builds") == []


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, "2", True])
def test_batch_size_is_a_positive_integer(log, batch_size):
    with pytest.raises(ConfigError, match="batch_size must be a positive integer"):
        Squares(Provider(log), batch_size=batch_size)


def test_durations_change_the_order_of_work_alone(log, out, two_workers):
    durations = [float(1 + i % 7) for i in range(30)]
    runner = Lines(Provider(log), output_dir=out, batch_size=4)
    assert runner(range(30), durations) == lines_of(range(30))
    assert forwards(log) == list(range(30))
    with pytest.raises(ConfigError, match="numbers of seconds, and one is None"):
        runner(range(30), [None] + durations[1:])
    with pytest.raises(ConfigError, match=r"numbers of seconds, and one is array\(\[0\. *, 1\."):
        runner(range(30), np.arange(60.0).reshape(30, 2))
    with pytest.raises(ConfigError, match="29 durations given for 30 items"):
        runner(range(30), durations[:-1])
    odd = Squares(Provider(log), output_dir=out / "odd")
    assert odd(range(3), [1.0, float("nan"), -1.0]) == [0, 1, 4]


# what JSON cannot hold


class Colour(IntEnum):
    RED = 1


class Pair(NamedTuple):
    one: int
    other: dict


@pytest.mark.parametrize(
    "bad",
    [
        float("nan"),
        [float("-inf")],
        object(),
        {1, 2},
        b"bytes",
        np.float32(1),
        np.zeros(2),
        {1: "int key"},
        [{"a": {None: 1}}],
        Counter({3: 1}),
        Pair(1, {2: 3}),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_what_json_cannot_hold_costs_that_item_alone(log, out, bad, batch_size):
    class Results(BaseRunner):
        @staticmethod
        def forward(idx, log):
            if isinstance(idx, list):
                return [Results.forward(i, log) for i in idx]
            return bad if idx == 5 else Squares.forward(idx, log)

    runner = Results(Provider(log), output_dir=out, batch_size=batch_size)
    with pytest.raises(RunFailed) as caught:
        runner(range(9))
    text = str(caught.value)
    assert [failure["position"] for failure in caught.value.failures] == [5]
    assert "utt5" in text
    assert "JSON cannot hold" in text
    assert "`write_record`" in str(caught.value.__cause__)
    with parallel_session(run={"on_error": "skip"}):
        assert runner(range(9)) == [i * i for i in range(9) if i != 5]


def test_what_json_can_hold_comes_back(log, n_workers):
    class Results(BaseRunner):
        @staticmethod
        def forward(idx):
            return [
                None,
                True,
                1,
                0.1,
                10**30,
                "a\n\u2028\x85\ud800é",
                (1, 2),
                {"k": [{}]},
                Colour.RED,
            ]

    same = [None, True, 1, 0.1, 10**30, "a\n\u2028\x85\ud800é", [1, 2], {"k": [{}]}, 1]
    assert Results(Provider(log))(range(3)) == [same] * 3


@pytest.mark.parametrize("result", [[1, 2, 3], 7, "abcd", None], ids=repr)
def test_batch_needs_one_result_for_each_item(log, result):
    class Results(BaseRunner):
        @staticmethod
        def forward(idx):
            return result

    with pytest.raises(RunFailed) as caught:
        Results(Provider(log), batch_size=4)(range(4))
    assert "for a batch of" in str(caught.value.__cause__)


# hooks


@pytest.mark.parametrize("batch_size", [None, 4])
def test_same_bytes_for_one_two_and_three_workers(log, tmp_path, batch_size):
    merged = {}
    for n in (1, 2, 3):
        set_parallel({"n_workers": n, "lease_seconds": 0.01})
        runner = Lines(Provider(log), output_dir=tmp_path / str(n), batch_size=batch_size)
        merged[n] = runner(range(50))
    assert merged[1] == merged[2] == merged[3] == lines_of(range(50))
    assert forwards(log) == sorted([*range(50)] * 3)


def test_reducer_methods_and_class_methods_run_unchanged(log, out, n_workers):
    merged = Totals(Provider(log), output_dir=out)(range(30))
    assert merged == (3 * sum(range(30)), 30)
    batched = Totals(Provider(log), output_dir=out / "batched", batch_size=1)
    with pytest.raises(RunFailed):  # it takes single items only
        batched(range(3))


@pytest.mark.parametrize("shard_subdir", ["valid", "stats/valid"])
def test_hooks_are_told_their_place(log, out, n_workers, shard_subdir):
    runner = PlaceInEnv(Provider(log), output_dir=out, shard_subdir=shard_subdir)
    place = [str(out), shard_subdir]
    assert runner(range(4)) == [{"forward": place, "write": place}] * 4
    assert runner.run_dir == out / shard_subdir
    assert (out / shard_subdir / "manifest.json").exists()
    assert list(out.iterdir()) == [out / shard_subdir.split("/")[0]]


def test_output_dir_may_be_relative(log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = PlaceInEnv(Provider(log), output_dir="exp/out", shard_subdir="a")
    assert runner(range(2)) == [{"forward": ["exp/out", "a"], "write": ["exp/out", "a"]}] * 2


def test_two_subdirs_are_two_runs(log, out):
    for name, n in (("a", 3), ("b", 5)):
        runner = Lines(Provider(log), output_dir=out, shard_subdir=name)
        assert runner(range(n)) == lines_of(range(n))


def test_methods_may_name_what_they_take_of_the_env(log, out, n_workers):
    runner = ByNameOnly(Provider(log, prefix="> ", model=abs), output_dir=out)
    assert runner([-1, -2, -3]) == "> 1\n> 2\n> 3\n"


def test_env_entry_with_the_name_of_an_argument_is_left_out(log):
    class Echo(BaseRunner):
        @staticmethod
        def forward(idx, **env):
            return [idx, "idx" in env]

    assert Echo(Provider(log, idx="env", state=1, result=2))([7]) == [[7, False]]


def lines_with(**hooks):
    """`Lines` with some hooks of another signature."""
    return type("Own", (Lines,), {name: staticmethod(hook) for name, hook in hooks.items()})


NEED_MORE = {
    "open_writers": lambda shard_dir, tokenizer: {},
    "write_record": lambda writers, result, state, tokenizer: None,
    "close_writers": lambda writers, state, *, tokenizer, **env: None,
    "init_state": lambda shard_id, output_dir, tokenizer: {},
    "reduce_state": lambda state, result, tokenizer: state,
    "finalize_state": lambda state, tokenizer: state,
}


@pytest.mark.parametrize("name", ["forward", *NEED_MORE])
def test_missing_parameter_is_an_error_before_any_item(log, out, n_workers, name):
    runner_class = lines_with(**{name: NEED_MORE[name]}) if name in NEED_MORE else NeedsMore
    with pytest.raises(ConfigError, match=r"needs 'tokenizer', but the provider's env has only"):
        runner_class(Provider(log), output_dir=out)(range(10))
    assert forwards(log) == []
    assert not list(out.glob("split.*"))


def test_hook_that_nobody_calls_may_need_anything(log, out, n_workers):
    def reduce_state(state, result):
        state.setdefault("kept", []).append(result)
        return state

    def finalize_state(state):
        Path(state["shard_dir"], "text").write_text("".join(map(str, state["kept"])))
        Path(state["shard_dir"], "ids").touch()
        return state

    unused = {name: NEED_MORE[name] for name in ("write_record", "close_writers")}
    runner_class = lines_with(reduce_state=reduce_state, finalize_state=finalize_state, **unused)
    assert b"utt3" in runner_class(Provider(log), output_dir=out)(range(4))


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("open_writers", staticmethod(lambda **env: {})),
        ("write_record", staticmethod(lambda writers, result: None)),
        ("close_writers", staticmethod(lambda writers, *, state: None)),
        ("finalize_state", classmethod(lambda cls: {})),
        ("forward", staticmethod(lambda: None)),
        ("merge", lambda self: None),
        ("merge", lambda self, shard_dirs, tokenizer: None),
    ],
)
def test_method_that_does_not_take_what_it_is_given_is_refused_at_once(log, out, name, hook):
    runner_class = type("Own", (Lines,), {name: hook})
    with pytest.raises(ConfigError, match=r"is called with \(.*which its signature \("):
        runner_class(Provider(log), output_dir=out)
    assert not out.exists()


@pytest.mark.parametrize("name", ["open_writers", "write_record", "close_writers", "init_state"])
def test_hook_that_takes_self_is_refused_at_once(log, out, name):
    with pytest.raises(ConfigError, match=f"Own.{name} must be a @staticmethod or @classmethod"):
        type("Own", (Lines,), {name: lambda self, **env: None})(Provider(log), output_dir=out)


def test_merge_alone_may_be_overridden(log, out):
    class Sum(Squares):
        def merge(self, shard_dirs):
            return sum(super().merge(shard_dirs))

    assert Sum(Provider(log))(range(4)) == 14


def test_runner_without_output_dir_leaves_nothing_behind(log, tmp_path, monkeypatch, n_workers):
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    runner = Squares(Provider(log))
    assert runner(range(5)) == runner(range(5)) == [0, 1, 4, 9, 16]
    tell(log, 2, "raise")
    with pytest.raises(RunFailed):
        runner(range(5))
    assert list(place.iterdir()) == []
    assert runner.output_dir is None


@pytest.mark.parametrize("runner_class", [Lines, Totals, PlaceInEnv])
def test_runner_with_hooks_needs_an_output_dir(log, runner_class):
    with pytest.raises(ConfigError, match=f"{runner_class.__name__} writes files, so it needs"):
        runner_class(Provider(log))(range(5))
    assert notes(log, "builds") == []


def test_runner_without_forward(log):
    with pytest.raises(RunFailed) as caught:
        BaseRunner(Provider(log))([1])
    assert isinstance(caught.value.__cause__, NotImplementedError)


# going on


def test_limit_then_all(log, out, n_workers):
    runner = Lines(Provider(log), output_dir=out)
    with parallel_session(run={"limit": 5}):
        assert runner(range(20)) is None
        assert runner(range(20)) is None
    assert forwards(log) == list(range(5))
    assert not (out / "text").exists()
    assert notes(log, "merges") == []
    assert runner(range(20)) == lines_of(range(20))
    assert forwards(log) == list(range(20))


def test_limit_takes_whole_batches(log, out):
    runner = Squares(Provider(log), output_dir=out, batch_size=4)
    with parallel_session(run={"limit": 5}):
        assert runner(range(20)) is None
    assert forwards(log) == list(range(8))
    assert runner(range(20)) == [i * i for i in range(20)]
    assert forwards(log) == list(range(20))


def test_limit_above_the_number_of_items_is_all(log):
    with parallel_session(run={"limit": 100}):
        assert Squares(Provider(log))(range(3)) == [0, 1, 4]


def test_huge_range_costs_nothing(log, out):
    with parallel_session(run={"limit": 3}):
        Squares(Provider(log))(range(3))  # imports count elsewhere
        forget(log)
        tracemalloc.start()
        try:
            assert Squares(Provider(log), output_dir=out)(range(100_000_000)) is None
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert forwards(log) == [0, 1, 2]
    assert peak < 2_000_000
    assert (out / "manifest.json").stat().st_size < 4096
    assert sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) < 20_000


def test_finished_run_merges_again_without_any_forward(log, out, n_workers):
    assert Lines(Provider(log), output_dir=out)(range(12)) == lines_of(range(12))
    shards = sorted(out.glob("split.*"))
    (out / "text").unlink()
    assert Lines(Provider(log), output_dir=str(out))(list(range(12))) == lines_of(range(12))
    assert forwards(log) == list(range(12))
    assert len(notes(log, "merges")) == 2
    assert sorted(out.glob("split.*")) == shards


def test_run_goes_on_with_another_batch_size_where_results_are_per_item(log, out):
    with parallel_session(run={"limit": 5}):
        Lines(Provider(log), output_dir=out, batch_size=5)(range(20))
    runner = Lines(Provider(log), output_dir=out, batch_size=3)
    assert runner(range(20)) == lines_of(range(20))
    assert forwards(log) == list(range(20))


@pytest.mark.parametrize("n_items", [12, 7, 150])
def test_resume_false_starts_over(log, out, n_workers, n_items):
    Lines(Provider(log), output_dir=out)(range(12))
    old = set(out.glob("split.*"))
    again = Lines(Provider(log), output_dir=out, resume=False)
    assert again(range(n_items)) == lines_of(range(n_items))
    assert forwards(log) == sorted([*range(12), *range(n_items)])
    assert not old & set(out.glob("split.*"))
    assert Lines(Provider(log), output_dir=out)(range(n_items)) == lines_of(range(n_items))
    assert len(forwards(log)) == 12 + n_items


def test_old_run_is_kept_until_the_new_one_is_complete(log, out):
    Lines(Provider(log), output_dir=out)(range(12))
    old, published = set(out.glob("split.*")), (out / "text").read_bytes()
    tell(log, 3, "raise")
    for _ in range(2):
        with pytest.raises(RunFailed):
            Lines(Provider(log), output_dir=out, resume=False)(range(12))
        assert old < set(out.glob("split.*"))
        assert (out / "text").read_bytes() == published
    tell(log, 3, None)
    forget(log)
    assert Lines(Provider(log), output_dir=out)(range(12)) == lines_of(range(12))
    assert forwards(log) == [3]
    assert not old & set(out.glob("split.*"))


def test_what_is_left_of_a_run_is_its_record_and_its_results(log, out, n_workers):
    tell(log, 3, "raise")
    with pytest.raises(RunFailed):
        Lines(Provider(log), output_dir=out)(range(12))
    record = {"manifest.json", "config.yaml", "lock", "failures.jsonl", "ledger.1.jsonl"}
    record |= {"events.jsonl"} if n_workers == 1 else {"events.jsonl", "dask.log"}
    assert files_beside_shards(out) == record
    tell(log, 3, None)
    (out / ".text.12345.tmp").touch()  # of a process that was killed
    Lines(Provider(log), output_dir=out)(range(12))
    assert files_beside_shards(out) == record | {"ledger.2.jsonl", "text", "ids"}


def files_beside_shards(out):
    """Names of all files of a run but those in shards and the workers' logs."""
    paths = [path for path in out.rglob("*") if path.is_file()]
    logs = set(out.glob("logs/worker.*.log"))
    return {p.name for p in paths if p not in logs and not p.parent.name.startswith("split.")}


def test_failing_merge_can_be_tried_again(log, out):
    class Sum(Squares):
        def merge(self, shard_dirs):
            if not (log / "mended").exists():
                raise OSError("no space")
            return sum(super().merge(shard_dirs))

    runner = Sum(Provider(log), output_dir=out)
    with pytest.raises(OSError, match="no space"):
        runner(range(4))
    (log / "mended").touch()
    assert runner(range(4)) == 14
    assert forwards(log) == [0, 1, 2, 3]


def test_full_disk_at_the_merge_is_told_as_that(log, out):
    class OnFullDisk(Lines):
        def merge(self, shard_dirs):
            with Path("/dev/full" if not (log / "mended").exists() else "/dev/null").open("w") as f:
                f.write("text")
            return super().merge(shard_dirs)

    runner = OnFullDisk(Provider(log), output_dir=out)
    with pytest.raises(RunStopped) as caught:
        runner(range(4))
    assert str(caught.value) == (
        f"{out}: No space left on device. The disk is full: make room.\nRaised by "
        f"OnFullDisk.merge, when the items were done. They are kept in {out}; the next call does "
        "none of them again, it merges."
    )
    assert isinstance(caught.value.__cause__, OSError)
    (log / "mended").touch()
    assert runner(range(4)) == lines_of(range(4))
    assert forwards(log) == [0, 1, 2, 3]


def test_what_is_there_is_told_as_it_is(log, out, caplog):
    caplog.set_level("INFO")
    runner = Lines(Provider(log), output_dir=out)

    def told(limit=None):
        caplog.clear()
        with parallel_session(run={"limit": limit}):
            runner(range(6))
        return [message for message in caplog.messages if "done before" in message]

    assert told(limit=3) == []
    assert told(limit=3) == [f"{out.name}: 3 of 6 items were done before"]
    assert told() == [f"{out.name}: 3 of 6 items were done before"]
    assert told() == [f"{out.name}: all 6 items were done before; merging them"]


def test_removed_shard_is_noticed_and_done_again(log, out):
    runner = Lines(Provider(log), output_dir=out, batch_size=2)
    with parallel_session(run={"limit": 4}):
        runner(range(10))
    for path in out.glob("split.*"):
        (path / "done").unlink()
    assert runner(range(10)) == lines_of(range(10))
    assert forwards(log) == sorted([*range(4), *range(10)])


# concatenate_shard_files


def test_concatenation_is_one_step_and_skips_shards_without_the_file(tmp_path):
    shards = [tmp_path / f"split.{i}" for i in range(3)]
    for i, shard in enumerate(shards):
        shard.mkdir()
        if i != 1:
            (shard / "part").write_bytes(b"%d\r\n\xff" % i)
    target = tmp_path / "deep" / "er" / "whole"
    assert concatenate_shard_files(shards, "part", target) is True
    assert target.read_bytes() == b"0\r\n\xff2\r\n\xff"
    assert [p.name for p in target.parent.iterdir()] == ["whole"]
    assert concatenate_shard_files(shards, "other", str(target)) is False
    assert not target.exists()


def test_failed_concatenation_keeps_what_was_there(tmp_path):
    shards = [tmp_path / f"split.{i}" for i in range(2)]
    for shard in shards:
        shard.mkdir()
    (shards[0] / "part").write_text("new")
    (shards[1] / "part").mkdir()
    target = tmp_path / "whole"
    target.write_text("old")
    with pytest.raises(IsADirectoryError):
        concatenate_shard_files(shards, "part", target)
    assert target.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["split.0", "split.1", "whole"]
