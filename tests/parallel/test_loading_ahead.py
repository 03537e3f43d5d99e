"""Items of the next units are read while `forward` is at one; nobody can tell but by the clock."""

import copy
import json
import os
import pickle
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drivers import DEADLINE, drivers
from slow_reading import (
    LONG_ENOUGH,
    Reads,
    SlowDataset,
    SlowProvider,
    ThreadSafe,
    expected,
)
from workloads import note, notes, tell

from espnet3.components.data.dataset import CombinedDataset, DatasetWithTransform
from espnet3.errors import RunFailed
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import set_parallel


@pytest.fixture
def start_reading(log, out):
    """Start a driver in a process of its own, with one slow dataset."""
    with drivers(Path(__file__).with_name("slow_reading.py"), out, log) as start:
        yield start


def tell_reading(log, item, how):
    """Say what reading an item shall do; None mends it."""
    path = Path(log) / f"read.{item}"
    path.unlink() if how is None else path.write_text(how)


def readers(log):
    """Thread names, by item, in the order of the accesses."""
    found = {}
    for line in notes(log, "reads"):
        index, _, name = line.partition(" ")
        found.setdefault(int(index), []).append(name)
    return found


def read_ahead(log):
    return {i for i, names in readers(log).items() if any("ahead" in name for name in names)}


def failures(out):
    lines = (out / "failures.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def kills(out):
    """(first, last) of each unit that a death was charged to."""
    lines = [json.loads(x) for p in out.glob("ledger.*") for x in p.read_text().splitlines()]
    return [(x["first"], x["last"]) for x in lines if x.get("kind") == "killed"]


class InProcess(EnvironmentProvider):
    """An env of objects that a test holds in its hands."""

    def __init__(self, **env):
        super().__init__()
        self.env = env

    def build_env_local(self):
        return dict(self.env)


def test_next_item_is_read_while_forward_is_at_one(log, out):
    set_parallel({"n_workers": 1, "prefetch": True})
    wait_for = {
        str(i): ["reads", f"{i + 1} "] for i in range(1, 11)
    }  # each waits for the next, but the first two
    assert Reads(SlowProvider(log, wait_for=wait_for), output_dir=out)(range(12)) == expected(
        range(12)
    )
    assert read_ahead(log) >= set(range(3, 12))
    assert [len(names) for names in readers(log).values()] == [1] * 12


class Alone(SlowDataset):
    """Tells when a name is asked for in the middle of a read."""

    reader = None

    def __getitem__(self, index):
        self.reader = threading.get_ident()
        item = super().__getitem__(index)
        threading.Event().wait(5 * LONG_ENOUGH)
        self.reader = None
        return item

    def utt_id(self, index):
        if self.reader not in (None, threading.get_ident()):
            note(self.log, "overlaps", index)
        return super().utt_id(index)


def test_names_are_not_asked_for_while_an_item_is_read(log, out):
    set_parallel({"n_workers": 1, "prefetch": True})
    wait_for = {str(i): ["reads", f"{i + 1} "] for i in range(1, 11)}
    found = Reads(SlowProvider(log, Alone, wait_for=wait_for), output_dir=out)(range(12))
    assert found == expected(range(12))
    assert read_ahead(log)
    assert not notes(log, "overlaps")


def test_next_batch_is_read_while_forward_is_at_one(log, out):
    set_parallel({"n_workers": 1, "prefetch": True})
    wait_for = {"7": ["reads", "11 "], "11": ["reads", "15 "]}
    reads = Reads(SlowProvider(log, wait_for=wait_for), output_dir=out, batch_size=4)
    assert reads(range(16)) == expected(range(16))
    assert [len(names) for names in readers(log).values()] == [1] * 16


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("dataset", [SlowDataset, ThreadSafe])
def test_results_are_the_same_with_and_without(log, out, n_workers, dataset, batch_size):
    items = [*range(30, 0, -2), 7, 7, 8]  # one twice
    found = []
    for prefetch in (False, True):
        set_parallel({"n_workers": n_workers, "prefetch": prefetch})
        reads = Reads(
            SlowProvider(log, dataset), output_dir=out / str(prefetch), batch_size=batch_size
        )
        found.append(reads(items))
    assert found == [expected(items)] * 2


@pytest.mark.parametrize("batch_size", [None, 3])
def test_exceptions_come_at_the_same_items(log, out, n_workers, batch_size):
    for item in (3, 4, 11):
        tell_reading(log, item, "raise")
    errors = []
    for prefetch in (False, True):
        set_parallel({"n_workers": n_workers, "prefetch": prefetch})
        place = out / str(prefetch)
        reads = Reads(SlowProvider(log), output_dir=place, batch_size=batch_size)
        with pytest.raises(RunFailed) as caught:
            reads(range(20))
        assert isinstance(caught.value.__cause__, OSError)
        alone = [f for f in failures(place) if f["position"] == f["last"]]
        errors.append([(f["position"], f["step"], f["error"], f["message"]) for f in alone])
        assert all(" in __getitem__" in f["traceback"] for f in alone)
        assert all(f["traceback"].count(" in fail") == 1 for f in alone)
    assert sorted(errors[0]) == sorted(errors[1])
    assert [e[0] for e in sorted(errors[1])] == [3, 4, 11]


def test_item_whose_reading_crashes_a_worker_is_named_and_its_neighbours_are_not(log, out, cluster):
    set_parallel({"n_workers": 2, "prefetch": True})
    tell_reading(log, 5, "segv")
    tell(log, 4, "hold once")  # it is in the middle of that one
    reads = Reads(SlowProvider(log), output_dir=out)
    with pytest.raises(RunFailed, match=r"killed by signal 11 \(SIGSEGV\)") as caught:
        reads(range(40))
    assert [f["position"] for f in caught.value.failures] == [5]
    assert kills(out) == [(5, 5)] * 2
    assert {f["position"] for f in failures(out)} == {5}
    assert len(readers(log)[5]) == 3  # ahead, and twice alone
    tell_reading(log, 5, None)
    set_parallel({"n_workers": 2, "prefetch": True, "max_kills": 3})
    assert reads(range(40)) == expected(range(40))


def test_batch_whose_reading_crashes_a_worker_is_taken_apart(log, out, cluster):
    set_parallel({"n_workers": 2, "prefetch": True, "on_error": "skip"})
    tell_reading(log, 10, "leave")
    tell(log, 7, "hold once")
    reads = Reads(SlowProvider(log), output_dir=out, batch_size=4)
    assert reads(range(64)) == expected(i for i in range(64) if i != 10)
    assert set(kills(out)) == {(8, 11), (10, 10)}


def test_forward_that_crashes_while_another_item_is_read_is_named(log, out, cluster, caplog):
    set_parallel({"n_workers": 2, "prefetch": True})
    tell(log, 4, "kill")
    tell_reading(log, 5, "hang once")
    reads = Reads(SlowProvider(log, wait_for={"4": ["hanging", "5"]}), output_dir=out)
    with pytest.raises(RunFailed) as caught:
        reads(range(40))
    assert [f["position"] for f in caught.value.failures] == [4]
    assert kills(out) == [(4, 4)] * 2
    assert "it may have died of #4 or #5" in caplog.text


def test_item_whose_reading_ends_the_driver_is_set_aside(log, out, start_reading):
    tell_reading(log, 5, "segv")
    tell(log, 4, "hold once")
    for _ in range(3):  # the first time it might have been another one
        assert start_reading(12).wait(DEADLINE) == -signal.SIGSEGV
    assert start_reading(12).wait(DEADLINE) == 1
    text = (log / "driver.txt").read_text()
    assert "1 of 12 items failed (1 WorkerKilled); 11 are done" in text
    assert kills(out) == [(5, 5)] * 2


def test_hanging_read_is_ended_and_no_other_item_is_charged(log, out, cluster):
    set_parallel({"n_workers": 1, "prefetch": True, "unit_timeout": 2.0})
    tell_reading(log, 5, "hang")
    with pytest.raises(RunFailed, match="unit_timeout = 2 s") as caught:
        Reads(SlowProvider(log), output_dir=out)(range(12))
    assert [(f["position"], f["error"]) for f in caught.value.failures] == [(5, "UnitTimeout")]


class Counting:
    """A dataset that sees who is in it."""

    def __init__(self, n_items=60):
        self.n_items = n_items
        self.asked = []
        self.threads = set()
        self.overlaps = 0
        self._inside = threading.Lock()

    def __len__(self):
        return self.n_items

    def __getitem__(self, index):
        alone = self._inside.acquire(blocking=False)
        self.overlaps += not alone
        self.asked.append(index)
        self.threads.add(threading.current_thread())
        threading.Event().wait(LONG_ENOUGH)
        if alone:
            self._inside.release()
        return self.item(index)

    def item(self, index):
        return index


class Sums(BaseRunner):
    """Reads its own item, and others that nobody can foresee; then it is busy with something else.

    Who reads all the time leaves nobody else the time to.
    """

    @staticmethod
    def forward(idx, dataset):
        threading.Event().wait(3 * LONG_ENOUGH)
        return dataset[idx] + dataset[(7 * idx) % len(dataset)] + dataset[-1]


class OneItem(BaseRunner):
    @staticmethod
    def forward(idx, dataset):
        return dataset[idx]


def test_accesses_never_overlap_and_items_out_of_order_are_right(out):
    class Wrapping(Counting):
        def item(self, index):
            return index % self.n_items

    dataset = Wrapping()
    set_parallel({"n_workers": 1, "prefetch": True})
    sums = Sums(InProcess(dataset=dataset), output_dir=out)(range(60))
    assert sums == [i + 7 * i % 60 + 59 for i in range(60)]
    assert dataset.overlaps == 0
    assert len(dataset.threads) > 1


@pytest.mark.parametrize(
    "wrapped", [lambda d: d, DatasetWithTransform, lambda d: CombinedDataset([d])]
)
def test_methods_that_read_items_themselves_never_overlap_with_what_is_read_ahead(out, wrapped):
    class AsksItself(Counting):
        def __getitems__(self, indices):  # as data loaders ask for a batch
            return [self[i] for i in indices]

        def __contains__(self, item):
            return self[item] == item

        def utt_id(self, index):
            return f"utt{self[index]}"

        def through(self, function, index):
            return function(index)

    class Asks(BaseRunner):
        @staticmethod
        def forward(idx, dataset):
            first = dataset[idx]
            threading.Event().wait(LONG_ENOUGH)
            if isinstance(dataset, CombinedDataset | DatasetWithTransform):
                return [first, *(dataset.utt_id(i) for i in range(5))]
            return [first, *dataset.__getitems__([1, 2]), 3 in dataset, dataset.utt_id(4),
                    dataset.through(dataset.__getitem__, (idx + 1) % 30)]  # fmt: skip

    dataset = AsksItself()
    set_parallel({"n_workers": 1, "prefetch": True})
    found = Asks(InProcess(dataset=wrapped(dataset)), output_dir=out)(range(30))
    if wrapped(dataset) is dataset:
        assert found == [[i, 1, 2, True, "utt4", (i + 1) % 30] for i in range(30)]
    else:
        assert found == [[i, *(f"utt{j}" for j in range(5))] for i in range(30)]
    assert dataset.overlaps == 0
    assert len(dataset.threads) > 1


def test_dataset_that_does_not_tell_how_many_items_it_has_is_read_inline(out):
    class Endless(Counting):
        def __len__(self):
            raise NotImplementedError("nobody knows")

    dataset = Endless()
    set_parallel({"n_workers": 1, "prefetch": True})
    assert OneItem(InProcess(dataset=dataset), output_dir=out)(range(9)) == [*range(9)]
    assert dataset.threads == {threading.current_thread()}


def test_dataset_that_is_not_ours_is_read_inline_until_it_is_asked_for(out):
    for prefetch, inline in [(None, True), (True, False), (False, True)]:
        dataset = Counting()
        set_parallel({"n_workers": 1, "prefetch": prefetch})
        Sums(InProcess(dataset=dataset), output_dir=out / str(prefetch))(range(30))
        assert (dataset.threads == {threading.current_thread()}) is inline


@pytest.mark.parametrize("prefetch", [None, True, False])
def test_dataset_that_looks_its_attributes_up_elsewhere_need_not_know_ours(out, prefetch):
    class Proxy(Counting):
        def __getattr__(self, name):
            return {"sampling_rate": 16000}[name]

    set_parallel({"n_workers": 1, "prefetch": prefetch})
    assert OneItem(InProcess(dataset=Proxy()), output_dir=out)(range(9)) == [*range(9)]


def test_wrapper_of_ours_that_a_user_extends_counts_as_what_it_wraps(out):
    class Mine(CombinedDataset):
        """Says something more of itself."""

    dataset = Counting()
    set_parallel({"n_workers": 1})
    found = OneItem(InProcess(dataset=Mine([dataset])), output_dir=out)(range(30))
    assert found == [*range(30)]
    assert dataset.threads == {threading.current_thread()}


def test_dataset_that_says_thread_safe_is_read_by_several_at_once(out):
    class Meeting(Counting):
        thread_safe = True
        barrier = threading.Barrier(2)
        met = False

        def item(self, index):
            if index > 2 and threading.current_thread().daemon and not self.met:
                self.barrier.wait(DEADLINE)  # nobody gets on before two are here
                self.met = True
            return index

    dataset = Meeting()
    set_parallel({"n_workers": 1})
    assert len(os.sched_getaffinity(0)) > 1
    Sums(InProcess(dataset=dataset), output_dir=out)(range(30))
    assert dataset.met


class Fat:
    nbytes = 1 << 27  # two are as much as may lie about


class Held(BaseRunner):
    """Notes how far the dataset was read when its item came."""

    @staticmethod
    def forward(idx, dataset, seen):
        dataset[idx]
        threading.Event().wait(3 * LONG_ENOUGH)
        seen.append(max(dataset.asked) - idx)
        return idx


@dataclass(slots=True)
class InSlots:
    speech: Any


@pytest.mark.parametrize(
    ("item", "most"), [(Fat(), 3), (InSlots([Fat()]), 3), ({"speech": Fat()}, 3), (b"", 17)]
)
def test_no_more_is_read_than_may_be_held(out, item, most):
    class Same(Counting):
        def item(self, index):
            return item

    seen = []
    set_parallel({"n_workers": 1, "prefetch": True})
    Held(InProcess(dataset=Same(), seen=seen), output_dir=out)(range(60))
    assert 1 <= max(seen) <= most


def test_reading_ahead_ends_where_forward_does_not_want_its_items(out):
    class Elsewhere(BaseRunner):
        @staticmethod
        def forward(idx, dataset):
            return dataset[len(dataset) - 1 - idx]

    for runner, items in [(Elsewhere, range(25)), (Strings, [str(i) for i in range(25)])]:
        dataset = Counting()
        set_parallel({"n_workers": 1, "prefetch": True})
        found = runner(InProcess(dataset=dataset), output_dir=out / runner.__name__)(items)
        assert len(found) == 25
        assert dataset.threads == {threading.current_thread()}


class Strings(BaseRunner):
    @staticmethod
    def forward(idx, dataset):
        return dataset[int(idx)]


def test_dataset_that_only_one_thread_can_read_is_left_to_it(out, caplog):
    class Bound(Counting):
        def item(self, index):
            if threading.current_thread() is not threading.main_thread():
                raise RuntimeError("made in another thread")
            return index

    dataset = Bound()
    set_parallel({"n_workers": 1, "prefetch": True})
    sums = Sums(InProcess(dataset=dataset), output_dir=out)(range(60))
    assert sums == [i + 7 * i % 60 - 1 for i in range(60)]
    assert "Bound cannot be read by another thread" in caplog.text


def test_stand_in_is_like_its_dataset(log, out):
    class Rich(SlowDataset):
        extra = "as it is"

        def __getitem__(self, index):
            if isinstance(index, slice):
                return [super(Rich, self).__getitem__(i)["speech"] for i in range(3)[index]]
            return super().__getitem__(index % self.n_items)["speech"]

        def __iter__(self):
            return iter("abc")

        def __add__(self, other):
            return f"plus {other}"

    class Looks(BaseRunner):
        @staticmethod
        def forward(idx, dataset, real):
            dataset.said = idx
            return [
                dataset[idx], dataset[np.int64(idx)], dataset[-1], dataset[True], dataset[0:2],
                isinstance(dataset, Rich), isinstance(dataset, SlowDataset), len(dataset),
                dataset.extra, list(dataset), dataset + 1, "b" in dataset, real.said,
                dataset.utt_id(idx), hasattr(dataset, "durations"), bool(dataset),
                type(copy.copy(dataset)) is Rich, type(copy.deepcopy(dataset)) is Rich,
            ]  # fmt: skip

    def row(i):
        last = 999 * 1.5
        return [
            i * 1.5, i * 1.5, last, 1.5, [0.0, 1.5], True, True, 1000, "as it is", ["a", "b", "c"],
            "plus 1", True, i, f"utt{i}", False, True, True, True,
        ]  # fmt: skip

    real = Rich(log)
    set_parallel({"n_workers": 1, "prefetch": True})
    assert Looks(InProcess(dataset=real, real=real), output_dir=out)(range(9)) == [
        row(i) for i in range(9)
    ]
    assert read_ahead(log)


def test_what_is_pickled_is_the_dataset_itself(log, out):
    class Pickles(BaseRunner):
        @staticmethod
        def forward(idx, dataset):
            there, method = pickle.loads(pickle.dumps([dataset, dataset.utt_id]))
            dataset[idx]
            return [type(there).__name__, method(idx), there[idx]["utt_id"]]

    set_parallel({"n_workers": 1, "prefetch": True})
    found = Pickles(SlowProvider(log), output_dir=out)(range(9))
    assert found == [["SlowDataset", f"utt{i}", f"utt{i}"] for i in range(9)]


@pytest.mark.parametrize("dataset", [SlowDataset, ThreadSafe])
def test_process_that_forward_forks_can_read(log, out, dataset):
    class Forks(BaseRunner):
        @staticmethod
        def forward(idx, dataset, log):
            first = dataset[idx]["utt_id"]
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    note(log, "children", dataset[idx + 1]["utt_id"])
                    status = 0
                finally:
                    os._exit(status)
            _, status = os.waitpid(pid, 0)
            return [first, status, dataset[idx]["utt_id"]]

    set_parallel({"n_workers": 1, "prefetch": True})
    found = Forks(SlowProvider(log, dataset), output_dir=out)(range(20))
    assert found == [[f"utt{i}", 0, f"utt{i}"] for i in range(20)]
    assert notes(log, "children") == [f"utt{i}" for i in range(1, 21)]
    assert read_ahead(log)


def test_no_thread_is_left_behind(log, out):
    set_parallel({"n_workers": 1, "prefetch": True})
    Reads(SlowProvider(log), output_dir=out)(range(30))
    assert read_ahead(log)
    assert not [thread for thread in threading.enumerate() if "ahead" in thread.name]
