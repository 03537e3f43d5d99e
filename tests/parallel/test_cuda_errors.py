"""After some CUDA errors a process cannot use its GPU any more; another one may."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from drivers import await_that
from workloads import Lines, Provider, lines_of, note, notes

from espnet3.errors import RunFailed, RunStopped
from espnet3.parallel.engine.ledger import read_coverage
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.parallel import parallel_session, set_parallel

ASSERT = """\
CUDA error: device-side assert triggered
Search for `cudaErrorAssert' in https://docs.nvidia.com/cuda/cuda-runtime-api/ for more information.
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below
might be incorrect.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1
"""
LOST = "CUDA error: unspecified launch failure"

_poisoned: list[str] = []  # of this process, as CUDA has it


class AcceleratorError(RuntimeError):
    """PyTorch's has this name."""


def use_gpu(text=None):
    """Every call after a bad one fails as that did."""
    import test_cuda_errors  # workers get these functions by value, but a process has one GPU

    if text is not None:
        test_cuda_errors._poisoned.append(text)
    if test_cuda_errors._poisoned:
        raise AcceleratorError(test_cuda_errors._poisoned[0])


@pytest.fixture(autouse=True)
def _gpu_in_order():
    import test_cuda_errors

    test_cuda_errors._poisoned.clear()
    yield
    test_cuda_errors._poisoned.clear()


class OnGpu(Lines):
    """Item i breaks the GPU of its process while `bad.i` is there; `flaky.i` once."""

    @staticmethod
    def forward(idx, log, **env):
        for item in idx if isinstance(idx, list) else [idx]:
            flaky = os.path.join(log, f"flaky.{item}")
            if os.path.exists(flaky):
                os.unlink(flaky)
                use_gpu(ASSERT)
            use_gpu(ASSERT if os.path.exists(os.path.join(log, f"bad.{item}")) else None)
        return Lines.forward(idx, log=log, **env)


def kills(out):
    return dict(read_coverage(out, Manifest.read(out).run_id).kills)


def failure_log(out):
    return [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]


@pytest.fixture
def worker():
    """One worker process."""
    set_parallel({"n_workers": 1, "unit_timeout": 60})


def test_item_that_breaks_the_gpu_fails_and_no_other_one(log, out, cluster, worker, caplog):
    note(log, "bad.5", "")
    runner = OnGpu(Provider(log), output_dir=out)
    with pytest.raises(RunFailed) as caught:
        runner(range(12))
    (failure,) = caught.value.failures
    assert (failure["position"], failure["utterance"]) == (5, "utt5")
    assert failure["message"].startswith(
        "2 processes lost the GPU in this item; AcceleratorError: CUDA error: device-side assert"
    )
    assert "Tracebacks" in str(caught.value)
    assert "cannot use its GPU any more after AcceleratorError: CUDA error: device-side" in (
        caplog.text
    )
    assert kills(out) == {(5, 6): 2}
    assert [f["error"] for f in failure_log(out)] == ["AcceleratorError", "WorkerKilled"]
    assert "use_gpu" in failure_log(out)[1]["traceback"]
    assert len(notes(log, "builds")) == 3


def test_item_that_goes_well_alone_is_done(log, out, cluster, worker):
    note(log, "flaky.5", "")
    assert OnGpu(Provider(log), output_dir=out)(range(12)) == lines_of(range(12))
    assert kills(out) == {(5, 6): 1}


def test_batch_is_taken_apart_until_the_item_stands_alone(log, out, two_workers):
    note(log, "bad.5", "")
    with pytest.raises(RunFailed) as caught:
        OnGpu(Provider(log), output_dir=out, batch_size=4)(range(12))
    assert [f["position"] for f in caught.value.failures] == [5]
    assert kills(out) == {(4, 8): 2, (5, 6): 2}


def test_record_that_breaks_the_gpu_is_not_the_fault_of_those_before(log, out, cluster, worker):
    class Late(OnGpu):
        """The GPU is waited for only when a result is written, or files are closed."""

        @staticmethod
        def write_record(writers, result, state, log, **env):
            if result["utt_id"] == "utt5" and not notes(log, "broken"):
                note(log, "broken", "")
                use_gpu(ASSERT)
            Lines.write_record(writers, result, state)

        @staticmethod
        def close_writers(writers, state, **env):
            use_gpu()
            return Lines.close_writers(writers, state)

    assert Late(Provider(log), output_dir=out)(range(12)) == lines_of(range(12))
    assert kills(out) == {(5, 6): 1}


def test_shard_that_cannot_be_closed_for_it_is_done_again(log, out, cluster, worker):
    class Closing(OnGpu):
        @staticmethod
        def close_writers(writers, state, log, **env):
            if not notes(log, "broken"):
                note(log, "broken", "")
                use_gpu(ASSERT)
            return Lines.close_writers(writers, state)

    assert Closing(Provider(log), output_dir=out)(range(12)) == lines_of(range(12))
    assert len(notes(log, "builds")) == 2


@pytest.mark.parametrize("batch_size", [None, 4])
def test_in_process_the_run_stops_and_each_start_goes_further(log, out, batch_size):
    """A start stands for a new process here: its GPU is in order."""
    import test_cuda_errors

    note(log, "bad.5", "")
    runner = OnGpu(Provider(log), output_dir=out, batch_size=batch_size)
    told = (
        "this process cannot use its GPU any more after a CUDA error in utt[45] .*device-side.*; "
        "[458] of 12 items are done and kept in .*; run the same command again to go on"
    )
    for _ in range(2 if batch_size is None else 4):
        with pytest.raises(RunStopped, match=told):
            runner(range(12))
        test_cuda_errors._poisoned.clear()
    with pytest.raises(RunFailed) as caught:
        runner(range(12))
    assert [f["position"] for f in caught.value.failures] == [5]
    coverage = read_coverage(out, Manifest.read(out).run_id)
    assert list(coverage.accepted) == [(0, 5), (6, 12)]
    (log / "bad.5").unlink()
    set_parallel({"max_kills": 3})
    assert runner(range(12)) == lines_of(range(12))


def test_what_pytorch_says_when_memory_is_given_back_hides_nothing(log, out, monkeypatch):
    class Cuda:
        is_available = staticmethod(lambda: True)
        is_initialized = staticmethod(lambda: True)
        get_device_name = staticmethod(use_gpu)
        empty_cache = staticmethod(use_gpu)

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=Cuda))
    note(log, "bad.5", "")
    with pytest.raises(RunStopped, match="after a CUDA error in utt5"):
        OnGpu(Provider(log), output_dir=out)(range(12))


# one of several GPUs


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with parallel_session({"env": "local_gpu", "n_workers": 2, "lease_seconds": 1e-6}):
        yield


def is_second():
    return os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_gpu_that_is_lost_is_given_up_and_the_other_does_it_all(log, out, two_gpus, caplog):
    class OnLostGpu(Provider):
        def build_worker_setup_fn(self):
            setup, log = super().build_worker_setup_fn(), self.config["log"]

            def set_up():
                if is_second() and notes(log, "lost"):
                    raise AcceleratorError(LOST)
                return setup()

            return set_up

    class Loses(Lines):
        @staticmethod
        def forward(idx, log, out, **env):
            if is_second() and len(notes(log, "second")) == 3:
                note(log, "lost", idx)
                use_gpu(LOST)
            note(log, "second" if is_second() else "first", idx)
            if not is_second() and idx > 10:
                events = Path(out) / "events.jsonl"
                await_that(lambda: '"worker_useless"' in events.read_text())
            return Lines.forward(idx, log=log, **env)

    provider = OnLostGpu(log, out=str(out))
    assert Loses(provider, output_dir=out)(range(60)) == lines_of(range(60))
    assert len(notes(log, "second")) == 3
    told = "OnLostGpu could not build its env in worker 1 (GPU 1): AcceleratorError: CUDA error"
    assert told in caplog.text
    assert caplog.text.count("the others go on without it") == 1
    assert sum(kills(out).values()) == 1


def test_gpu_on_which_nothing_goes_well_is_given_up_after_two_items(log, out, two_gpus, caplog):
    class Broken(Lines):
        @staticmethod
        def forward(idx, log, **env):
            if is_second():
                note(log, "lost", idx)
                use_gpu(LOST)
            if idx > 10:
                await_that(lambda: len(notes(log, "lost")) == 2)
            return Lines.forward(idx, log=log, **env)

    assert Broken(Provider(log), output_dir=out)(range(60)) == lines_of(range(60))
    assert len(notes(log, "lost")) == 2
    told = "worker 1 (GPU 1): 2 units in a row that ended with CUDA errors there went well"
    assert f"{told} elsewhere; the others go on without it" in caplog.text
    assert sorted(kills(out).values()) == [1, 1]


@pytest.mark.parametrize("n_bad", [2, 4])
def test_units_that_broke_both_gpus_are_done_by_the_other_one(log, out, two_gpus, n_bad):
    """Nothing else is left then, and neither waits for the other."""

    class Both(Lines):
        @staticmethod
        def forward(idx, log, **env):
            if idx not in map(int, notes(log, "begun")):
                note(log, "begun", idx)
                # Each has one in hand, so that neither sees to the other's first.
                await_that(lambda: len(notes(log, "begun")) >= 2)
                use_gpu(ASSERT)
            return Lines.forward(idx, log=log, **env)

    assert Both(Provider(log), output_dir=out)(range(n_bad)) == lines_of(range(n_bad))
    assert sum(kills(out).values()) == n_bad


def test_who_has_the_same_gpu_is_nobody_else(log, out, monkeypatch, caplog):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")

    class Broken(Lines):
        @staticmethod
        def forward(idx, log, out, **env):
            if is_second():  # two workers are there
                note(log, "lost", idx)
                use_gpu(LOST)
            events = Path(out) / "events.jsonl"
            # They are back, and may have what they like.
            await_that(lambda: events.read_text().count('"env_built"') == 6)
            return Lines.forward(idx, log=log, **env)

    block = {"env": "local_gpu", "n_workers": 4, "workers_per_gpu": 2, "lease_seconds": 1e-6}
    with parallel_session(block):
        found = Broken(Provider(log, out=str(out)), output_dir=out)(range(60))
    assert found == lines_of(range(60))
    assert sorted(kills(out).values()) == [1, 1]
    assert "(GPU 1): 2 units in a row that ended with CUDA errors there went well" in caplog.text


def test_run_stops_with_the_reason_when_no_gpu_is_left(log, out, two_gpus):
    class NoGpu(Provider):
        def build_worker_setup_fn(self):
            setup, log = super().build_worker_setup_fn(), self.config["log"]

            def set_up():
                if notes(log, "lost"):
                    raise AcceleratorError(LOST)
                return setup()

            return set_up

    class Loses(Lines):
        @staticmethod
        def forward(idx, log, **env):
            if idx > 3:
                note(log, "lost", idx)
                use_gpu(LOST)
            return Lines.forward(idx, log=log, **env)

    # Whichever of them meets the other's unit: no item is given up before the GPUs are.
    set_parallel({"env": "local_gpu", "n_workers": 2, "lease_seconds": 1e-6, "max_kills": 9})
    told = r"NoGpu could not build its env in worker \d \(GPU \d\): AcceleratorError: CUDA error"
    with pytest.raises(RunStopped, match=told):
        Loses(NoGpu(log), output_dir=out)(range(60))


class OnnxruntimeFail(Exception):
    """As its `Fail`: no RuntimeError."""

    __module__ = "onnxruntime.capi.onnxruntime_pybind11_state"


@pytest.mark.parametrize("kind", [RuntimeError, OnnxruntimeFail])
@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", True),
        ("Triton Error [CUDA]: misaligned address", True),
        ("CUDA failed with error unspecified launch failure", True),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`", True),
        ("CUDA error: invalid device ordinal", False),
        ("CUDA error: no kernel image is available for execution on the device", False),
        ("shape mismatch: misaligned address of the user's own", False),
    ],
)
def test_other_errors_leave_the_process_as_it_is(log, out, cluster, worker, kind, text, ends):
    class Once(Lines):
        @staticmethod
        def forward(idx, log, **env):
            if idx == 2 and not notes(log, "raised"):
                note(log, "raised", "")
                try:
                    raise kind(text)
                except kind as error:
                    raise ValueError("cannot decode") from error
            return Lines.forward(idx, log=log, **env)

    set_parallel({"n_workers": 1, "unit_timeout": 60, "on_error": "skip"})
    done = Once(Provider(log), output_dir=out)(range(6))
    assert done == lines_of(i for i in range(6) if ends or i != 2)
    assert len(notes(log, "builds")) == 1 + ends


def test_break_of_one_run_does_not_reach_the_next_in_its_session(log, out, cluster, worker):
    note(log, "flaky.3", "")
    with parallel_session({"n_workers": 1, "unit_timeout": 60}):
        for name in ("one", "other"):
            assert OnGpu(Provider(log), output_dir=out / name)(range(5)) == lines_of(range(5))
