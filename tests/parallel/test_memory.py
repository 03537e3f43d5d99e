"""Batches that do not fit into memory."""

import json
import os
import signal

import numpy as np
import pytest
from workloads import Lines, Provider, Squares, lines_of, note, notes

from espnet3.errors import RunFailed
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.engine.ledger import read_coverage
from espnet3.parallel.engine.manifest import Manifest
from espnet3.report.read import read_run
from espnet3.report.summary import summarise
from espnet3.report.timeline import timeline
from espnet3.runs import snapshot
from espnet3.runs.text import describe


class OutOfMemoryError(RuntimeError):
    """PyTorch's has this name."""


class Tight(BaseRunner):
    """Item i is as long as `seconds` says; a batch must not cost more than the file `room` says."""

    per_item_output = True

    @staticmethod
    def forward(idx, log, seconds, **env):
        cost = len(idx) * max(seconds[i % len(seconds)] for i in idx)
        room = notes(log, "room")
        if room and cost > float(room[-1]):
            note(log, "failed", cost)
            raise OutOfMemoryError(f"CUDA out of memory: {cost}")
        note(log, "fitted", len(idx))
        return [i * i for i in idx]


def run(log, out, n, batch_size, seconds=(1,), *, known=True):
    durations = [float(seconds[i % len(seconds)]) for i in range(n)] if known else None
    runner = Tight(Provider(log, seconds=list(seconds)), output_dir=out, batch_size=batch_size)
    assert runner(range(n), durations) == [i * i for i in range(n)]


def split(out):
    coverage = read_coverage(out, Manifest.read(out).run_id)
    return list(coverage.split)


def told(caplog):
    return [r.message for r in caplog.records if r.message.startswith("out of memory with")]


def test_limit_is_found_once_and_the_user_is_told_what_to_set(log, out, n_workers, caplog):
    note(log, "room", 500)
    run(log, out, 7 * 32, 32, seconds=[31.2])
    assert len(notes(log, "failed")) <= n_workers
    assert set(notes(log, "fitted")) == {"16"}
    assert told(caplog) == [
        "out of memory with 32 items of up to 31.2 s (998 padded seconds); going on with at most "
        "499; set `run: {batch_seconds: 450}`"
    ]
    assert split(out) == [(0, 7 * 32)]
    assert not (out / "failures.jsonl").exists()


def test_without_durations_it_is_the_number_of_items(log, out, caplog, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    note(log, "room", 3)
    run(log, out, 24, 8, known=False)
    assert notes(log, "failed") == ["8", "4"]
    assert set(notes(log, "fitted")) == {"2"}
    assert told(caplog) == [
        "out of memory with 8 items on GPU 3; going on with at most 2; set `batch_size: 2`"
    ]


def test_batches_that_fit_are_left_whole(log, out):
    note(log, "room", 40)
    run(log, out, 32, 8, seconds=[*[1] * 8, *[7] * 8])
    assert notes(log, "failed") == ["56"]
    assert notes(log, "fitted") == ["4", "4", "4", "4", "8", "8"]  # the longest come first
    assert split(out) == [(0, 16)]


def test_larger_batches_are_tried_again_later_and_less_and_less_often(log, out):
    note(log, "room", 4)
    run(log, out, 8 * 100, 8)
    assert 3 <= len(notes(log, "failed")) <= 5


def test_memory_that_a_neighbour_took_is_used_again(log, out):
    class Neighbour(Tight):
        @staticmethod
        def forward(idx, log, **env):
            if idx[0] >= 80:
                note(log, "room", 100)
            return Tight.forward(idx, log, **env)

    note(log, "room", 1)
    runner = Neighbour(Provider(log, seconds=[1]), output_dir=out, batch_size=8)
    assert runner(range(800)) == [i * i for i in range(800)]
    assert notes(log, "fitted")[-20:] == ["8"] * 20


def test_item_that_never_fits_is_named_and_the_others_go_on_in_whole_batches(log, out):
    note(log, "room", 50)
    runner = Tight(Provider(log, seconds=[1] * 11 + [90] + [1] * 100), output_dir=out, batch_size=8)
    with pytest.raises(RunFailed) as caught:
        runner(range(64))
    (failure,) = caught.value.failures
    assert (failure["position"], failure["error"]) == (11, "OutOfMemoryError")
    assert notes(log, "fitted").count("8") == 7


def test_death_in_a_part_is_that_of_the_whole_batch(log, out, two_workers):
    class Deadly(Tight):
        @staticmethod
        def forward(idx, log, **env):
            if 6 in idx and len(idx) == 4 and not notes(log, "died"):
                note(log, "died", os.getpid())
                os.kill(os.getpid(), signal.SIGKILL)
            return Tight.forward(idx, log, **env)

    note(log, "room", 4)
    runner = Deadly(Provider(log, seconds=[1]), output_dir=out, batch_size=8)
    assert runner(range(16)) == [i * i for i in range(16)]
    coverage = read_coverage(out, Manifest.read(out).run_id)
    assert coverage.kills == {(0, 8): 1}


@pytest.mark.parametrize("error_class", [MemoryError, OutOfMemoryError])
def test_failed_batch_is_let_go_of_before_its_halves_are_tried(log, out, error_class):
    alive = []

    class Big:
        def __init__(self):
            alive.append(self)

        def __del__(self):
            alive.pop()

    class Greedy(Lines):
        @staticmethod
        def forward(idx, **env):
            assert not alive, "the failed batch is still held"
            if len(idx) > 2:
                big = Big.__new__(Big)
                alive.append(None)
                big.np = np.zeros(10)
                idx.clear()  # user code may do with its list what it likes
                raise error_class("out of memory")
            return Lines.forward(idx, **env)

    runner = Greedy(Provider(log), output_dir=out, batch_size=8)
    assert runner(range(16)) == lines_of(range(16))


class DoesNotFit(Lines):
    """Batches of more than two do not, and say so in the words of the file `error`."""

    @staticmethod
    def forward(idx, log, **env):
        if len(idx) > 2:
            try:
                raise RuntimeError(notes(log, "error")[0])
            except RuntimeError as error:
                raise ValueError(f"cannot decode {idx}") from error
        return Lines.forward(idx, log=log, **env)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuFFT error: CUFFT_ALLOC_FAILED",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 40000000000 bytes. Error code 12 (Cannot allocate memory)",
    ],
)
def test_other_words_for_it_are_known_and_what_was_raised_from_them(log, out, caplog, text):
    note(log, "error", text)
    runner = DoesNotFit(Provider(log), output_dir=out, batch_size=4)
    assert runner(range(8)) == lines_of(range(8))
    assert len(told(caplog)) == 1
    assert not (out / "failures.jsonl").exists()


def test_part_with_too_few_results_is_refused(log, out):
    class Short(Squares):
        @staticmethod
        def forward(idx, log):
            if len(idx) > 2:
                raise MemoryError
            return [1] if 0 in idx else [1, 2, 3]

    with pytest.raises(RunFailed, match="ConfigError: forward returned"):
        Short(Provider(log), output_dir=out, batch_size=4)(range(4))


def test_runner_with_one_result_for_a_batch_has_it_halved_by_the_engine(log, out, n_workers):
    class Sums(BaseRunner):
        @staticmethod
        def forward(idx, **env):
            if len(idx) > 2:
                raise MemoryError
            return sum(idx)

        @staticmethod
        def open_writers(shard_dir, **env):
            return {"sums": (shard_dir / "sums").open("w")}

        @staticmethod
        def write_record(writers, result, state, **env):
            writers["sums"].write(f"{result}\n")

        def merge(self, shard_dirs):
            return "".join((d / "sums").read_text() for d in shard_dirs).split()

    runner = Sums(Provider(log), output_dir=out, batch_size=4)
    assert runner(range(8)) == ["1", "5", "9", "13"]
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [f["error"] for f in failures] == ["MemoryError"] * 2


def test_status_and_report_tell_of_it(log, out):
    note(log, "room", 4)
    run(log, out, 16, 8)
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    (event,) = [e for e in events if e["event"] == "out_of_memory"]
    assert event["set"] == "`run: {batch_seconds: 3.6}`"
    told = "out of memory with 8 items of up to 1.0 s (8 padded seconds); going on with at most 4"
    text = describe(snapshot(out))
    assert f"  memory   {told}" in text
    assert "16 of 16 done (100 %), 0 failed, 0 left; 16 not done in the planned unit" in text
    record = read_run(out, "test")
    summary = summarise(record, timeline(record), None)
    assert "16 items not done in the planned unit" in summary.done
    assert any(told in line for line in summary.to_do)
