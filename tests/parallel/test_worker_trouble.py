"""Items that hang, crash their process, or do not fit into memory; what workers leave in logs."""

import ctypes
import json
import os
import re
import signal
import sys
import time

import numpy as np
import pytest
from workloads import Lines, Provider, Squares, forget, forwards, lines_of, note, notes

from espnet3.errors import RunFailed, RunStopped
from espnet3.parallel.parallel import set_parallel


def failing(call):
    with pytest.raises(RunFailed) as caught:
        call()
    return caught.value


def failure_log(out):
    return [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]


# units that take too long


def hold_the_gil(seconds):
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # PyDLL keeps it; usleep is C


def hanging(bad, hang):
    class Hanging(Lines):
        @staticmethod
        def forward(idx, log, **env):
            if bad in (idx if isinstance(idx, list) else [idx]):
                note(log, "hung", os.getpid())
                hang()
            return Lines.forward(idx, log=log, **env)

    return Hanging


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "hang", [lambda: time.sleep(300), lambda: hold_the_gil(300)], ids=["asleep", "in C"]
)
def test_unit_that_hangs_is_ended_and_recorded(log, out, cluster, workers, hang):
    set_parallel({"n_workers": workers, "unit_timeout": 0.5})
    error = failing(lambda: hanging(7, hang)(Provider(log), output_dir=out)(range(20)))
    assert [f["position"] for f in error.failures] == [7]
    assert "  -     UnitTimeout: it took longer than unit_timeout = 0.5 s" in str(error)
    assert f"\nWhat the workers said: {out / failure_log(out)[0]['log']}.\n" in str(error)
    assert "a larger `unit_timeout` (in `run:`; now 0.5 s)" in str(error)
    assert "Run the same again to retry just these" in str(error)
    assert "Traceback" not in str(error)
    assert len(notes(log, "hung")) == 1  # its time is not given to it twice
    assert str(os.getpid()) not in notes(log, "hung")
    set_parallel({"n_workers": workers, "unit_timeout": 60})
    forget(log)
    mended = hanging(None, hang)(Provider(log), output_dir=out)
    assert mended(range(20)) == lines_of(range(20))
    assert forwards(log) == [7]


def test_batch_that_hangs_is_taken_apart(log, out, cluster):
    set_parallel({"n_workers": 2, "unit_timeout": 0.4, "on_error": "skip"})
    runner = hanging(6, lambda: time.sleep(300))(Provider(log), output_dir=out, batch_size=4)
    assert runner(range(12)) == lines_of(i for i in range(12) if i != 6)
    assert [(f["position"], f["last"]) for f in failure_log(out)] == [(4, 7), (6, 7), (6, 6)]


def test_slow_units_are_left_alone(log, out, cluster):
    class Slow(Squares):
        @staticmethod
        def forward(idx, log):
            time.sleep(0.15)
            return idx

    set_parallel({"n_workers": 2, "unit_timeout": 1.0})
    assert Slow(Provider(log), output_dir=out)(range(20)) == list(range(20))


# processes that crash


@pytest.mark.parametrize(
    ("crash", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), r"killed by signal 9 \(SIGKILL\)"),
        (lambda: ctypes.string_at(0), r"killed by signal 11 \(SIGSEGV\)"),
        (lambda: os.abort(), r"killed by signal 6 \(SIGABRT\)"),
        (lambda: os._exit(7), "ended with exit status 7"),
    ],
    ids=["SIGKILL", "SIGSEGV", "SIGABRT", "os._exit"],
)
def test_crash_is_told_with_its_signal_and_log(log, out, two_workers, crash, words):
    class Crashing(Lines):
        @staticmethod
        def forward(idx, **env):
            if idx == 5:
                sys.stdout.write("before the crash\n")
                sys.stdout.flush()
                crash()
            return Lines.forward(idx, **env)

    error = failing(lambda: Crashing(Provider(log), output_dir=out)(range(12)))
    (failure,) = failure_log(out)
    assert failure["error"] == "WorkerKilled"
    assert re.search(words, failure["message"])
    text = (out / failure["log"]).read_text()
    assert "before the crash" in text
    if "SIGSEGV" in words:
        assert "Segmentation fault" in text
        assert "in forward" in text  # the Python stack, by faulthandler
    assert [f["position"] for f in error.failures] == [5]
    assert str(error).count("WorkerKilled") >= 1


# what workers say


def test_each_worker_has_a_log_of_what_it_says(log, out, two_workers, capfd):
    class Chatty(Squares):
        @staticmethod
        def forward(idx, log):
            import logging

            print(f"printed {idx}", flush=True)  # noqa: T201
            os.system(f"echo from a child {idx}")
            logging.getLogger("recipe").info("logged %d", idx)
            return idx

    for place in ("one", "other"):  # the workers outlive the first run
        Chatty(Provider(log), output_dir=out / place)(range(10))
        text = "".join(p.read_text() for p in (out / place / "logs").glob("worker.*.log"))
        for idx in range(10):
            assert f"printed {idx}\n" in text
            assert f"from a child {idx}\n" in text
            assert f"INFO recipe: logged {idx}\n" in text
        headers = re.findall(r"--- [\d-]+ [\d:]+ worker (\d) on \S+, pid \d+\n", text)
        assert set(headers) <= {"0", "1"}
        assert len(headers) == len(set(headers)) >= 1  # one may have come too late for any item
    assert "printed" not in capfd.readouterr().out


def test_failure_names_the_log(log, out, two_workers):
    class Bad(Lines):
        @staticmethod
        def forward(idx, **env):
            if idx == 3:
                raise ValueError("bad")
            return Lines.forward(idx, **env)

    failing(lambda: Bad(Provider(log), output_dir=out)(range(6)))
    (failure,) = failure_log(out)
    assert re.fullmatch(r"logs/worker\.\d\.log", failure["log"])
    assert (out / failure["log"]).exists()


# memory


class OutOfMemoryError(RuntimeError):
    """PyTorch's has this name."""


@pytest.mark.parametrize("error_class", [MemoryError, OutOfMemoryError])
def test_out_of_memory_halves_the_batch_and_lets_go_of_it(log, out, error_class):
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
                raise error_class("out of memory")
            return Lines.forward(idx, **env)

    runner = Greedy(Provider(log), output_dir=out, batch_size=8)
    assert runner(range(16)) == lines_of(range(16))
    assert {f["error"] for f in failure_log(out)} == {error_class.__name__}


# shards that cannot be closed


def closing(bad, error_of=lambda: RuntimeError("cannot encode")):
    """Writes in `close_writers`, as runners do that fold records first."""

    class Closing(Lines):
        @staticmethod
        def write_record(writers, result, state, **env):
            state.setdefault("kept", []).append(result)

        @staticmethod
        def close_writers(writers, state, **env):
            for result in state.pop("kept"):
                for record in result if isinstance(result, list) else [result]:
                    if record["utt_id"] in bad:
                        raise error_of()
                    Lines.write_record(writers, record, state)
            return Lines.close_writers(writers, state)

    return Closing


@pytest.mark.parametrize("batch_size", [None, 4])
def test_record_that_breaks_its_shard_at_the_end_costs_itself_alone(
    log, out, n_workers, batch_size
):
    runner = closing({"utt5"})(Provider(log), output_dir=out, batch_size=batch_size)
    error = failing(lambda: runner(range(20)))
    assert [f["position"] for f in error.failures] == [5]
    assert "  utt5              5  close_writers  RuntimeError: cannot encode\n" in str(error)
    set_parallel({"n_workers": n_workers, "on_error": "skip"})
    assert runner(range(20)) == lines_of(i for i in range(20) if i != 5)


def test_shards_that_never_close_stop_the_run(log, out, n_workers):
    runner = closing({f"utt{i}" for i in range(64)})(Provider(log), output_dir=out)
    error = failing(lambda: runner(range(64)))
    assert "items all failed with RuntimeError" in str(error)
    assert not list(out.glob("split.*/done"))


def test_disk_that_is_full_at_the_close_stops_the_run(log, out, n_workers):
    full = OSError(28, "No space left on device")
    runner = closing({"utt5"}, lambda: full)(Provider(log), output_dir=out)
    with pytest.raises(RunStopped, match="close_writers failed.*No space left"):
        runner(range(10))
    assert not (out / "text").exists()
