"""Arrays and audio are written while `forward` is at later items; the files tell no difference."""

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from espnet3.errors import RunFailed
from espnet3.parallel.engine.ledger import read_coverage
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.unit_times import from_record
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import parallel_session
from espnet3.parallel.worker import writing_behind
from espnet3.systems.base import record_writer
from espnet3.systems.base.inference_runner import InferenceRunner
from espnet3.utils import artifacts

pytestmark = pytest.mark.usefixtures("by_value")

DEADLINE = 60  # seconds, for what is awaited
N = 24
RATE = 16000
ARTIFACTS = {
    "wav": {"type": "wav", "sample_rate": RATE},
    "flac": {"type": "flac", "sample_rate": RATE},
    "matrix": {"type": "npy"},
    "feats": {"type": "ark"},
    "speech": {"type": "ark", "sample_rate": RATE},
    "long": {"type": "text"},
}


class Items(list):
    """A dataset."""

    def utt_id(self, i):
        return f"utt{i}"


class Model:
    """All kinds of outputs, a function of the item; notes each call in a file."""

    def __init__(self, log, bad=(), broken=()):
        self.log = Path(log)
        self.bad = set(bad)
        self.broken = set(broken)
        self.buffers = np.zeros((5, 400), dtype=np.float32)  # the same for all batches

    def __call__(self, x):
        with (self.log / "calls").open("a") as file:
            file.write("".join(f"{i}\n" for i in np.atleast_1d(x)))
        if isinstance(x, list):
            return [self.one(i, audio) for i, audio in zip(x, self.buffers, strict=False)]
        return self.one(x, self.buffers[0])

    def one(self, i, audio):
        if i in self.broken:
            raise OSError(f"item {i} is broken")
        audio[:] = np.sin(np.arange(400) * (i + 1) / 50) / 2
        if i in self.bad:
            audio[7] = np.nan
        return {
            "wav": audio,
            "flac": audio,
            "matrix": np.arange(12.0).reshape(3, 4).T[:: 1 + i % 2],
            "feats": np.full((2, 3), i, dtype=np.float32),
            "speech": audio,
            "score": np.float32(i / 3),
            "nbest": {"texts": [f"a{i}", "ä"], "scores": np.arange(3.0)},
            "long": f"line {i}\nline 2",
            "hyp": f"text {i}",
            "unused": object(),
        }


KEYS = [*ARTIFACTS, "score", "nbest", "hyp"]


class AtOnce(InferenceRunner):
    """A user's hook, so that nothing is written behind."""

    @staticmethod
    def write_record(writers, result, state, **env):
        InferenceRunner.write_record(writers, result, state)


class Provider(EnvironmentProvider):
    """Gives an env; `patch` is called where it is built."""

    def __init__(self, model, patch=None, **params):
        super().__init__()
        dataset = Items({"utt_id": f"utt{i}", "x": i} for i in range(N))
        names = {"input_key": "x", "output_keys": KEYS, "output_artifacts": ARTIFACTS}
        self.env = {"dataset": dataset, "model": model, **names, **params}
        self.patch = patch

    def build_env_local(self):
        if self.patch is not None:
            self.patch()
        return dict(self.env)

    def make_worker_setup_fn(self):
        patch, env = self.patch, self.env

        def setup():
            if patch is not None:
                patch()
            return dict(env)

        return setup


def decode(out, model, runner=InferenceRunner, n_workers=1, run=None, patch=None, **how):
    params = {name: how.pop(name) for name in ("output_artifacts", "output_keys") if name in how}
    made = runner(Provider(model, patch, **params), output_dir=out, **how)
    parallel = {"env": "local", "n_workers": n_workers} if n_workers > 1 else None
    with parallel_session(parallel, run=run):
        return made(range(N))


def published(out):
    """Every file that was published, with its content; paths of the run directory taken out."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes().replace(str(out).encode(), b"OUT")
        for path in sorted(out.rglob("*"))
        if path.relative_to(out).parts[0].partition(".")[0] in KEYS and path.is_file()
    }


def calls(log):
    return Counter(map(int, (log / "calls").read_text().split()))


def failures(out):
    """By position, those of an item alone: a batch that fails is taken apart."""
    lines = map(json.loads, (out / "failures.jsonl").read_text().splitlines())
    return {one["position"]: one for one in lines if one["position"] == one["last"]}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def on_write(monkeypatch):
    """Have a function called with the path of each file that is about to be written."""

    def patch(function):
        def write_bytes(path, data):
            function(Path(path))
            return artifacts.write_bytes(path, data)

        monkeypatch.setattr(record_writer, "write_bytes", write_bytes)

    return patch


def test_forward_goes_on_while_a_result_is_written(out, tmp_path, on_write):
    begun = {i: threading.Event() for i in range(N)}
    writers = {}

    class Telling(Model):
        def one(self, i, audio):
            begun[i].set()
            return super().one(i, audio)

    def wait_for_the_next(path):
        if path.suffix == ".wav":
            i = int(path.stem.removeprefix("utt"))
            writers[i] = threading.current_thread().name
            assert i == N - 1 or begun[i + 1].wait(DEADLINE)

    on_write(wait_for_the_next)
    decode(out, Telling(tmp_path))
    assert writers == dict.fromkeys(range(N), "writes behind")
    assert list(writers) == list(range(N))


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("n_workers", [1, 2])
def test_files_are_the_same_byte_by_byte(out, tmp_path, n_workers, batch_size):
    at_once = tmp_path / "at_once"
    decode(at_once, Model(tmp_path), AtOnce, batch_size=batch_size)
    run = {"lease_seconds": 1e-6} if n_workers > 1 else None
    decode(out, Model(tmp_path), n_workers=n_workers, run=run, batch_size=batch_size)
    found = published(out)
    assert found == published(at_once)
    assert {"wav/utt0.wav", "matrix/utt3.npy", "feats.scp", "nbest/utt9.json"} < found.keys()
    assert not [name for name in found if "tmp" in name]


def test_never_more_than_a_few_results_wait(out, tmp_path, on_write):
    model, ahead = Model(tmp_path), []

    def count(path):
        if path.suffix == ".wav":
            ahead.append(sum(calls(tmp_path).values()) - 1 - int(path.stem.removeprefix("utt")))

    on_write(count)
    decode(out, model)
    # One is written, one was just made and waits for room.
    assert len(ahead) == N
    assert max(ahead) <= writing_behind.MOST_UNITS + 2


@pytest.mark.parametrize("batch_size", [None, 4])
def test_items_that_cannot_be_written_fail_alone(out, tmp_path, batch_size):
    bad = {0, 8, 9, N - 1}
    with pytest.raises(RunFailed) as caught:
        decode(out, Model(tmp_path, bad), batch_size=batch_size, run={"on_error": "finish"})
    found = failures(out)
    assert {i: one["utterance"] for i, one in found.items()} == {i: f"utt{i}" for i in bad}
    assert {one["step"] for one in found.values()} == {"write_record"}
    assert {one["error"] for one in found.values()} == {"RecordRejected"}
    assert "NaN" in str(caught.value)
    (tmp_path / "calls").unlink()
    decode(out, Model(tmp_path), batch_size=batch_size)
    assert set(calls(tmp_path)) == bad  # nothing else was lost
    expected = tmp_path / "expected"
    decode(expected, Model(tmp_path), AtOnce, batch_size=batch_size)
    assert published(out) == published(expected)


def test_item_that_fails_behind_one_that_cannot_be_written(out, tmp_path):
    with pytest.raises(RunFailed):
        decode(out, Model(tmp_path, bad={8}, broken={9, 10}), run={"on_error": "finish"})
    steps = {i: one["step"] for i, one in failures(out).items()}
    assert steps == {8: "write_record", 9: "forward", 10: "forward"}
    records = [json.loads(path.read_text()) for path in out.glob("split.*/done")]
    assert sum(one["last"] - one["first"] + 1 for one in records) == N - 3
    assert sum(len(from_record(one)) for one in records) == N - 3
    (tmp_path / "calls").unlink()
    decode(out, Model(tmp_path))
    assert set(calls(tmp_path)) == {8, 9, 10}


def test_what_the_disk_refuses_for_one_item_alone_fails_that_one(out, tmp_path, on_write):
    def refuse(path):
        if path.name == "utt8.flac":
            raise OSError(27, "File too large", str(path))

    on_write(refuse)
    with pytest.raises(RunFailed, match="File too large"):
        decode(out, Model(tmp_path), run={"on_error": "finish"})
    assert set(failures(out)) == {8}
    on_write(lambda path: None)
    decode(out, Model(tmp_path))
    expected = tmp_path / "expected"
    decode(expected, Model(tmp_path), AtOnce)
    assert published(out) == published(expected)


def awaited(condition):
    until = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < until:
        time.sleep(0.001)


class KilledAt:
    """Ends the process while the audio of an item is written, each time; first when a later
    item is in hand."""

    def __init__(self, log, item):
        self.log = log
        self.item = item

    def __call__(self):
        def write_bytes(path, data):
            if Path(path).name == f"utt{self.item}.wav":
                if calls(self.log)[self.item] == 1:
                    awaited(lambda: calls(self.log)[self.item + 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return artifacts.write_bytes(path, data)

        record_writer.write_bytes = write_bytes


class InHand(Model):
    """At item 9 until item 7 is begun again."""

    def one(self, i, audio):
        if i == 9:
            awaited(lambda: calls(self.log)[7] > 1)
        return super().one(i, audio)


def test_item_that_kills_while_it_is_written_is_the_one_to_blame(out, tmp_path):
    run = {"on_error": "finish", "max_kills": 1}
    with pytest.raises(RunFailed):
        decode(out, InHand(tmp_path), n_workers=2, run=run, patch=KilledAt(tmp_path, 7))
    assert set(failures(out)) == {7}
    (tmp_path / "calls").unlink()
    decode(out, Model(tmp_path))
    assert set(calls(tmp_path)) == {7}


def test_interrupt_waits_for_no_slow_disk(out, tmp_path, on_write, monkeypatch):
    monkeypatch.setattr("espnet3.parallel.worker.forking.LIMIT", 0.01)
    is_writing, go_on = threading.Event(), threading.Event()

    class Interrupted(Model):
        def one(self, i, audio):
            if i == 3:
                assert is_writing.wait(DEADLINE)
                raise KeyboardInterrupt
            return super().one(i, audio)

    def hang(path):
        is_writing.set()
        go_on.wait(DEADLINE)

    on_write(hang)
    with pytest.raises(KeyboardInterrupt):
        decode(out, Interrupted(tmp_path))
    assert not go_on.is_set()
    go_on.set()
    on_write(lambda path: None)
    decode(out, Model(tmp_path))
    expected = tmp_path / "expected"
    decode(expected, Model(tmp_path), AtOnce)
    assert published(out) == published(expected)


def test_child_that_comes_back_from_forward_ends(out, tmp_path):
    codes = []

    class Forking(Model):
        def one(self, i, audio):
            result = super().one(i, audio)
            if i == 5 and (pid := os.fork()):
                codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            return result

    decode(out, Forking(tmp_path))
    assert codes == [1]
    expected = tmp_path / "expected"
    decode(expected, Model(tmp_path), AtOnce)
    assert published(out) == published(expected)


def note_thread(value, output_path, **options):
    """A writer of the user's."""
    path = Path(f"{output_path}.txt")
    path.write_text(threading.current_thread().name)
    return path


def test_writers_of_the_users_are_called_where_forward_is(out, tmp_path):
    writers = {**ARTIFACTS, "matrix": {"writer": {"_target_": f"{__name__}.note_thread"}}}
    decode(out, Model(tmp_path), output_artifacts=writers)
    names = {path.read_text() for path in (out / "matrix").iterdir()}
    assert len(list((out / "matrix").iterdir())) == N
    assert names == {threading.current_thread().name}


class NotingThread(InferenceRunner):
    @staticmethod
    def write_record(writers, result, state, **env):
        state.setdefault("threads", set()).add(threading.current_thread().name)
        InferenceRunner.write_record(writers, result, state)

    @staticmethod
    def close_writers(writers, state, **env):
        (Path(state["shard_dir"]) / "threads").write_text(" ".join(state["threads"]))
        return InferenceRunner.close_writers(writers, state)


def test_hooks_of_the_users_are_called_where_forward_is(out, tmp_path):
    decode(out, Model(tmp_path), NotingThread)
    found = {path.read_text() for path in out.glob("split.*/threads")}
    assert found == {threading.current_thread().name}


def test_child_of_a_fork_leaves_the_files_alone(out, tmp_path):
    class Forking(Model):
        def one(self, i, audio):
            result = super().one(i, audio)
            pid = os.fork()
            if not pid:
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            return result

    decode(out, Forking(tmp_path))
    expected = tmp_path / "expected"
    decode(expected, Model(tmp_path), AtOnce)
    assert published(out) == published(expected)


def test_without_one_more_thread_all_is_written_at_once(out, tmp_path, monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "writes behind":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RunFailed):
        decode(out, Model(tmp_path, bad={8}), run={"on_error": "finish"})
    assert set(failures(out)) == {8}
    assert set(calls(tmp_path).values()) == {1}
    decode(out, Model(tmp_path))
    expected = tmp_path / "expected"
    decode(expected, Model(tmp_path), AtOnce)
    assert published(out) == published(expected)


def test_interrupt_at_the_end_of_a_lease_leaves_no_thread(out, tmp_path, on_write, monkeypatch):
    monkeypatch.setattr("espnet3.parallel.worker.forking.LIMIT", 0.01)
    main, file, go_on = threading.main_thread(), writing_behind.__file__, threading.Event()

    def interrupt(path):
        if path.name == f"utt{N - 1}.wav":
            awaited(lambda: sys._current_frames()[main.ident].f_code.co_filename == file)
            signal.pthread_kill(main.ident, signal.SIGINT)
            awaited(lambda: signal.getsignal(signal.SIGINT).__self__.signal)
            signal.pthread_kill(main.ident, signal.SIGINT)
            go_on.wait(DEADLINE)

    on_write(interrupt)
    with pytest.raises(KeyboardInterrupt):
        decode(out, Model(tmp_path))
    go_on.set()
    (writer,) = [one for one in threading.enumerate() if one.name == "writes behind"]
    writer.join(DEADLINE)
    assert not writer.is_alive()


def test_forward_may_change_the_working_directory(out, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    written = {i: threading.Event() for i in range(N)}

    class Changing(Model):
        def one(self, i, audio):
            os.chdir(elsewhere)
            assert i == 0 or written[i - 1].wait(DEADLINE)
            os.chdir(tmp_path)
            return super().one(i, audio)

    def write_bytes(path, data):
        artifacts.write_bytes(path, data)
        if Path(path).suffix == ".wav":
            written[int(Path(path).stem.removeprefix("utt"))].set()

    monkeypatch.setattr(record_writer, "write_bytes", write_bytes)
    monkeypatch.chdir(tmp_path)
    decode("out", Changing(tmp_path))
    assert not list(elsewhere.iterdir())
    assert len(list((out / "wav").iterdir())) == N


class BreaksGpu(Model):
    """Item 9 breaks the GPU, always."""

    def one(self, i, audio):
        if i == 9:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return super().one(i, audio)


def test_result_that_cannot_be_written_is_not_put_down_to_the_gpu(out, tmp_path):
    run = {"on_error": "finish"}
    with pytest.raises(RunFailed):
        decode(out, BreaksGpu(tmp_path, bad={8}), n_workers=2, run=run)
    errors = {i: one["error"] for i, one in failures(out).items()}
    assert errors == {8: "RecordRejected", 9: "WorkerKilled"}
    assert set(read_coverage(out, Manifest.read(out).run_id).kills) == {(9, 10)}


class Odd(Model):
    """Item 8 has something of its own."""

    def __init__(self, log, **own):
        super().__init__(log)
        self.own = own

    def one(self, i, audio):
        return super().one(i, audio) | (self.own if i == 8 else {})


def test_result_that_is_too_large_to_be_copied_fails_alone(out, tmp_path):
    endless = np.broadcast_to(np.float32(0.5), (1 << 60,))
    with pytest.raises(RunFailed, match="cannot be written as wav"):
        decode(out, Odd(tmp_path, wav=endless), run={"on_error": "finish"})
    assert set(failures(out)) == {8}
    assert set(calls(tmp_path).values()) == {1}


def test_bytes_between_the_fields_of_a_structure_are_the_same(out, tmp_path):
    padded = np.zeros(1000, np.dtype([("a", "i1"), ("b", "f8")], align=True))
    padded.view("u1")[:] = np.arange(padded.nbytes)
    decode(out, Odd(tmp_path, matrix=padded))
    expected = tmp_path / "expected"
    decode(expected, Odd(tmp_path, matrix=padded), AtOnce)
    assert published(out) == published(expected)


@pytest.mark.parametrize("value", [1.5, np.float32(1.5), np.array(1.5), None])
def test_what_stands_on_a_line_is_not_worth_it(tmp_path, value):
    writer = record_writer.RecordWriter(tmp_path, tmp_path, output_keys=["hyp", "score"])
    record = {"utt_id": "utt1", "hyp": "a text", "score": value, "unused": np.zeros(1000)}
    assert writer.set_aside(record) is None
    assert writer.set_aside({**record, "hyp": np.zeros(3)}) is not None
