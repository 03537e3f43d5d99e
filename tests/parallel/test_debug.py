"""What `RunFailed` says, and `runner.debug`, which does one item in this process."""

import io
import os
import pickle
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from workloads import Lines, NeedsMore, Provider, Squares, Totals, forget, forwards, notes, tell

import espnet3
from espnet3.errors import ConfigError, RecordRejected, RunFailed, RunStopped
from espnet3.parallel.parallel import set_parallel

PATHS = os.pathsep.join([str(Path(__file__).parent), str(Path(espnet3.__file__).parents[1])])


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def snapshot(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


# what RunFailed says


def failure_of(runner, items):
    with pytest.raises(RunFailed) as caught:
        runner(items)
    return caught.value


class Failing(Squares):
    """Fails for every item but 0, in ways that differ."""

    kinds = (KeyError, IndexError, OSError, TypeError, RuntimeError, ArithmeticError)

    @staticmethod
    def forward(idx):
        if idx:
            raise Failing.kinds[idx % 6](f"no. {idx}\nand more that\x1b[2J nobody needs in a table")
        return 0


def test_failures_are_shown_in_a_table_and_counted(out):
    set_parallel({"max_failures": 100})
    error = failure_of(Failing(Provider(out), output_dir=out), range(13))
    assert str(error).splitlines() == [
        "12 of 13 items failed (2 IndexError, 2 OSError, 2 TypeError, 2 RuntimeError, 4 of other "
        f"kinds); 1 are done and kept in {out}; nothing was merged.",
        "  utterance  position  step     error",
        "  utt1              1  forward  IndexError: no. 1",
        "  utt2              2  forward  OSError: no. 2",
        "  utt3              3  forward  TypeError: no. 3",
        "  utt4              4  forward  RuntimeError: no. 4",
        "  utt5              5  forward  ArithmeticError: no. 5",
        "  ... and 7 more",
        f"Tracebacks: {out / 'failures.jsonl'}.",
        "Run the same again to retry just these, or with `on_error: skip` (in `run:`, or in what "
        "set_parallel is given) to publish without them.",
        "To do the first one alone, under a debugger (the run is left as it is):",
        "  runner.debug(1)",
    ]


class Garbled(Squares):
    @staticmethod
    def forward(idx):
        raise ValueError("\x1b[2Jred\rover")


def test_what_an_exception_says_cannot_move_the_cursor(out, caplog):
    error = failure_of(Garbled(Provider(out), output_dir=out), ["a\nb"])
    assert r"  utta\nb           0  forward  ValueError: \x1b[2Jred" in str(error).splitlines()
    said = [record.getMessage() for record in caplog.records]
    assert r"utta\nb (position 0) failed in forward: ValueError: \x1b[2Jred" in said


def test_what_a_hook_says_cannot_move_the_cursor(out, caplog):
    def open_writers(shard_dir, **env):
        raise RuntimeError("\x1b[2Jno\ncodec")

    runner = type("Garbled", (Lines,), {"open_writers": staticmethod(open_writers)})
    with pytest.raises(RunStopped) as caught:
        runner(Provider(out), output_dir=out)(range(3))
    first, _, last = str(caught.value).splitlines()
    assert first == r"open_writers failed, which stops a run: RuntimeError: \x1b[2Jno"
    assert last == f"Traceback: {out / 'failures.jsonl'}."
    said = [record.getMessage() for record in caplog.records]
    assert r"stopping: open_writers failed: RuntimeError: \x1b[2Jno" in said


def test_call_names_the_item_and_not_its_position(log, out):
    tell(log, 7, "raise")
    error = failure_of(Lines(Provider(log), output_dir=out), [3, 5, 7])
    assert error.debug == "runner.debug(7)"
    assert str(error).endswith("\n  runner.debug(7)")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.failures) == (str(error), error.failures)
    again.debug = "python run.py"
    assert str(again).endswith("\n  python run.py")
    assert "runner.debug" not in str(again)


# runner.debug


@pytest.mark.parametrize("batch_size", [None, 4])
def test_debug_does_one_item_and_touches_nothing(log, out, batch_size):
    runner = Lines(Provider(log), output_dir=out, batch_size=batch_size)
    runner(range(6))
    forget(log)
    before = snapshot(out)
    record = {"utt_id": "utt4", "text": "4b227"}
    assert runner.debug(4) == ([record] if batch_size else record)
    assert forwards(log) == [4]
    assert snapshot(out) == before
    assert len(notes(log, "merges")) == 1


def test_debug_needs_neither_a_run_nor_a_lock(log, out):
    class Meanwhile(Lines):
        def merge(self, shard_dirs):
            return Lines(self.provider, output_dir=out).debug(2)["utt_id"]

    assert Squares(Provider(log)).debug(3) == 9
    assert Lines(Provider(log)).debug(3)["utt_id"] == "utt3"
    assert Totals(Provider(log), output_dir=out).debug(3) == 9
    assert not out.exists()
    assert Meanwhile(Provider(log), output_dir=out)(range(3)) == "utt2"


def test_exception_of_forward_passes_with_its_item(log, out):
    tell(log, 5, "raise")
    with pytest.raises(ValueError, match="item 5 is bad") as caught:
        Lines(Provider(log), output_dir=out).debug(5)
    (note,) = caught.value.__notes__
    assert note == "This was in forward, for item 5, done alone here."
    assert not out.exists()


def test_record_that_cannot_be_written_shows_too(log):
    class Unwritable(Squares):
        @staticmethod
        def forward(idx):
            return object()

    with pytest.raises(RecordRejected, match="JSON cannot hold") as caught:
        Unwritable(Provider(log)).debug(5)
    assert "in write_record, for item 5" in caught.value.__notes__[0]


def test_writers_are_closed_in_any_case(log):
    opened = []

    class Broken(Lines):
        @staticmethod
        def open_writers(shard_dir, **env):
            opened.append(Lines.open_writers(shard_dir)["text"])
            return {"text": opened[-1]}

    tell(log, 5, "raise")
    runner = Broken(Provider(log))
    runner.debug(4)
    with pytest.raises(ValueError, match="item 5"):
        runner.debug(5)
    assert [file.closed for file in opened] == [True, True]
    assert not any(Path(file.name).exists() for file in opened)


@pytest.mark.parametrize("hook", ["open_writers", "close_writers"])
def test_hook_of_a_shard_that_fails_is_named(log, hook):
    def fail(*args, **env):
        raise RuntimeError("no such codec")

    runner = type("Failing", (Lines,), {hook: staticmethod(fail)})(Provider(log))
    with pytest.raises(RuntimeError, match="no such codec") as caught:
        runner.debug(5)
    assert f"This was in {hook}, " in caught.value.__notes__[0]


def test_provider_that_fails_is_named(log):
    class NoModel(Provider):
        def build_env_local(self):
            raise FileNotFoundError("model.pth")

    with pytest.raises(FileNotFoundError) as caught:
        Lines(NoModel(log)).debug(5)
    assert "This was in the provider, " in caught.value.__notes__[0]
    with pytest.raises(ConfigError, match="'tokenizer'"):
        NeedsMore(Provider(log)).debug(5)


def test_batch_without_one_result_for_each_item_is_refused_as_in_a_run(log):
    class Sum(Squares):
        @staticmethod
        def forward(idx):
            return sum(idx)

    with pytest.raises(ConfigError, match="forward returned int for a batch of 1 items"):
        Sum(Provider(log), batch_size=2).debug(5)


def test_debugger_stands_where_it_was_raised(log, tmp_path):
    """On a real terminal: a program that debugs, and somebody who types."""
    tell(log, 5, "raise")
    program = f"from workloads import *; Lines(Provider({str(log)!r})).debug(5)"
    ours, theirs = pty.openpty()
    with (tmp_path / "said").open("w+b") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": PATHS},
            stdin=theirs,
            stdout=said,
            stderr=said,
        )
        os.close(theirs)
        os.write(ours, b"p 'item is', item\nu\np 'idx is', idx\nq\n")
        assert process.wait(60) == 1
        os.close(ours)
        said.seek(0)
        text = said.read().decode()
    assert "ValueError: item 5 is bad\nThis was in forward, for item 5" in text
    assert "('item is', 5)" in text
    assert "('idx is', 5)" in text
    assert text.count("Traceback (most recent call last)") == 1


def test_crash_in_c_code_shows_the_python_stack():
    program = (
        "import ctypes\n"
        "from workloads import Squares\n"
        "class Crashing(Squares):\n"
        "    @staticmethod\n"
        "    def forward(idx):\n"
        "        ctypes.string_at(0)\n"
        "Crashing(type('Nothing', (), {'build_env_local': dict})()).debug(5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": PATHS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGSEGV
    assert "line 6 in forward" in done.stderr
