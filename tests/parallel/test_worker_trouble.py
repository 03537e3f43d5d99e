"""Items that hang or crash their process; what workers leave in logs."""

import ctypes
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from drivers import DEADLINE, await_that, is_running
from workloads import Lines, Provider, Squares, forget, forwards, lines_of, note, notes, tell

from espnet3.errors import RunFailed, RunStopped
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.marker import Marker
from espnet3.parallel.executors import driver, lookout, waiting
from espnet3.parallel.executors.worker_state import Worker
from espnet3.parallel.parallel import set_parallel
from espnet3.parallel.worker import stack


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


def sleep_deep(depth):
    if depth:
        sleep_deep(depth - 1)
    time.sleep(300)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("hang", "where"),
    [
        (lambda: time.sleep(300), "<lambda>"),
        (lambda: hold_the_gil(300), "hold_the_gil"),
        (lambda: sleep_deep(200), "sleep_deep"),
    ],
    ids=["asleep", "in C", "deep"],
)
def test_unit_that_hangs_is_ended_and_recorded(
    log, out, cluster, monkeypatch, caplog, workers, hang, where
):
    monkeypatch.setattr(stack, "LIMIT", DEADLINE)  # the machine may be slow
    set_parallel({"n_workers": workers, "unit_timeout": 0.5})
    error = failing(lambda: hanging(7, hang)(Provider(log), output_dir=out)(range(20)))
    assert [f["position"] for f in error.failures] == [7]
    assert "  -     UnitTimeout: it took longer than unit_timeout = 0.5 s" in str(error)
    assert f"\nWhat the workers said: {out / failure_log(out)[0]['log']}.\n" in str(error)
    assert "a larger `unit_timeout` (in `run:`; now 0.5 s)" in str(error)
    assert "Run the same again to retry just these" in str(error)
    assert "Traceback" not in str(error)
    assert "killed by signal" not in caplog.text  # what ended it is told, and that once
    assert len(notes(log, "hung")) == 1  # its time is not given to it twice
    assert str(os.getpid()) not in notes(log, "hung")
    (failure,) = failure_log(out)
    outermost = r"sleep_deep \(.*\)" if where == "sleep_deep" else r"forward \(.*\) > "
    # cloudpickle 3.1.3 and newer leave out where code came from that travels whole.
    place = (
        rf", in {outermost}.*{where} \(({Path(__file__).name}|<dynamic-code>):\d+\); all threads"
    )
    assert re.search(rf"{place} in {re.escape(failure['log'])}", failure["message"])
    calls = [line for line in failure["traceback"].splitlines() if line.startswith("  File ")]
    assert re.fullmatch(rf'  File "({__file__}|<dynamic-code>)", line \d+, in {where}', calls[-1])
    last = failure["traceback"].rstrip().splitlines()[-1].strip()
    assert calls[-1].startswith('  File "<') or last in Path(__file__).read_text()  # line itself
    assert f"in {where}\n" in (out / failure["log"]).read_text()
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


def test_what_a_hung_unit_has_started_is_ended_with_it(log, out, cluster):
    def run_programs():
        shell = subprocess.Popen("sleep 300 & echo $!; wait", shell=True, stdout=subprocess.PIPE)
        note(log, "children", shell.pid)
        note(log, "children", int(shell.stdout.readline()))
        shell.wait()

    set_parallel({"n_workers": 2, "unit_timeout": 0.5, "on_error": "skip"})
    assert hanging(3, run_programs)(Provider(log), output_dir=out)(range(8)) == lines_of(
        i for i in range(8) if i != 3
    )
    children = [int(pid) for pid in notes(log, "children")]
    assert len(children) == 2
    await_that(lambda: not any(map(is_running, children)))


def test_shared_memory_of_a_hung_unit_is_removed_by_its_tracker(log, out, cluster):
    segment = Path("/dev/shm") / f"espnet3.test.{os.getpid()}"

    def leave_shared_memory():
        segment.touch()
        command = "from multiprocessing.resource_tracker import main; main(0)"
        tracker = subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE)
        tracker.stdin.write(f"REGISTER:/{segment.name}:shared_memory\n".encode())
        tracker.stdin.flush()
        time.sleep(300)

    set_parallel({"n_workers": 2, "unit_timeout": 0.5, "on_error": "skip"})
    try:
        hanging(3, leave_shared_memory)(Provider(log), output_dir=out)(range(8))
        assert notes(log, "hung")
        await_that(lambda: not segment.exists())
    finally:
        segment.unlink(missing_ok=True)


def test_slow_units_are_left_alone(log, out, cluster):
    class Slow(Squares):
        @staticmethod
        def forward(idx, log):
            time.sleep(0.15)
            return idx

    set_parallel({"n_workers": 2, "unit_timeout": 1.0})
    assert Slow(Provider(log), output_dir=out)(range(20)) == list(range(20))


# what takes long is told


@pytest.fixture
def impatient(monkeypatch):
    """What has lasted for a moment is long."""
    monkeypatch.setattr(waiting, "SAY_EVERY", 0.05)
    monkeypatch.setattr(lookout, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(lookout, "LONG", 0.1)


@pytest.fixture
def when_told(caplog):
    """Takes words and what to do at the first log record that has them."""
    watching = []

    class Watching(logging.Handler):
        def emit(self, record):
            for words, act in list(watching):
                if words in record.getMessage():
                    watching.remove((words, act))
                    act()

    logger, handler = logging.getLogger("espnet3"), Watching()
    logger.addHandler(handler)
    caplog.set_level(logging.INFO, "espnet3")
    yield lambda words, act: watching.append((words, act))
    logger.removeHandler(handler)
    assert not watching, "that was not said"


def test_item_that_takes_long_is_told_with_its_worker(
    log, out, two_workers, impatient, when_told, caplog
):
    tell(log, 7, "hold")
    when_told(" has been at #7 for ", lambda: tell(log, 7, None))
    assert Lines(Provider(log), output_dir=out)(range(20)) == lines_of(range(20))
    line = r"worker \d has been at #7 for [\d.]+ s; `unit_timeout` \(in `run:`\) ends an item that "
    assert re.search(line, caplog.text)


def test_shard_that_takes_long_to_open_is_told(log, out, cluster, impatient, when_told, caplog):
    hold = log / "hold"
    hold.touch()

    class Slow(Lines):
        @staticmethod
        def open_writers(shard_dir, **env):
            while hold.exists():
                time.sleep(0.01)
            return Lines.open_writers(shard_dir, **env)

    set_parallel({"n_workers": 2, "unit_timeout": 60})
    when_told(" has been opening, closing or committing its shard for ", hold.unlink)
    assert Slow(Provider(log), output_dir=out)(range(8)) == lines_of(range(8))
    assert "`unit_timeout` (in" not in caplog.text  # it would not help


def test_env_that_takes_long_to_build_is_told(log, out, two_workers, impatient, when_told):
    hold = log / "hold"
    hold.touch()

    class Slow(Provider):
        def build_worker_setup_fn(self):
            setup = super().build_worker_setup_fn()

            def wait_and_set_up():
                while hold.exists():
                    time.sleep(0.01)
                return setup()

            return wait_and_set_up

    words = (
        "waiting for 2 workers: building their env (Slow), or ending what a run before gave them"
    )
    when_told(words, hold.unlink)
    assert Lines(Slow(log), output_dir=out)(range(8)) == lines_of(range(8))


def test_worker_that_could_not_be_ended_is_ended_again(log, monkeypatch):
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(lookout, "time", clock)
    ended = []  # and lost on the way: the worker lives on
    client = SimpleNamespace(run=lambda *args, **options: ended.append(clock.now))
    run = SimpleNamespace(
        config=RunConfig(unit_timeout=10.0),
        coverage=SimpleNamespace(longest=1.0),
        name_of="utt{}".format,
        run_dir=log,
    )
    looking = lookout.Lookout(run, client)
    marker = Marker(log / "inflight.0")
    marker.begin_lease(0)
    workers = {"0": Worker(None, marker=str(log / "inflight.0"), lease=Lease(0, 0, 9, 60.0))}

    def look_on(position, seconds):
        ended.clear()
        marker.cells[0] = position + 1
        for _ in range(seconds):
            clock.now += 1.0
            looking.look(workers)
        return [t - clock.now + seconds for t in ended]

    assert look_on(position=3, seconds=60) == [12.0, 42.0]
    assert look_on(position=4, seconds=20) == [12.0], "another unit of it that hangs"


def test_only_what_is_long_for_this_run_is_told_and_ever_less_often(log, monkeypatch, caplog):
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(lookout, "time", clock)
    run = SimpleNamespace(
        config=RunConfig(), coverage=SimpleNamespace(longest=40.0), name_of="utt{}".format
    )
    looking = lookout.Lookout(run, client=None)
    markers = [Marker(log / f"inflight.{i}") for i in range(6)]
    workers = {}
    for i, marker in enumerate(markers):
        lease = Lease(i, 10 * i, 10 * i + 10, 60.0)
        marker.begin_lease(i)
        workers[str(i)] = Worker(None, name=str(i), marker=str(log / f"inflight.{i}"), lease=lease)

    def lines_of_look(seconds):
        caplog.clear()
        for _ in range(0, seconds, 5):
            clock.now += 5.0
            for i, marker in enumerate(markers):  # units of 40 s; those of worker 0 never end
                marker.cells[0] = 1 if i == 0 else 10 * i + int(clock.now // 40) % 10 + 1
            looking.look(workers)
        return caplog.messages

    assert lines_of_look(85) == []  # twice as long as the longest so far is not long
    (line,) = lines_of_look(60)
    assert line.startswith("worker 0 has been at utt0 for ")
    assert "more" not in line
    assert 2 <= len(lines_of_look(1000)) <= 4  # at twice the time, and twice that
    assert 1 <= len(lines_of_look(2000)) <= 2
    run.coverage.longest = 1.0
    for marker in markers:
        marker.cells[0] = 0
    markers.clear()
    told = lines_of_look(120)
    assert any(
        line.count("worker ") == lookout.NAMED and ", and 3 more for" in line for line in told
    )


def test_worker_that_is_asked_by_signal_says_where_it_is(log, out, start_driver):
    tell(log, 5, "hold")
    run = start_driver(12, n_workers=2)
    await_that(lambda: notes(log, "held"), run)
    begun = [line.split() for line in notes(log, "forwards")]
    os.kill(next(int(pid) for item, pid in begun if item == "5"), stack.DUMP_SIGNAL)
    logs = out / "logs"
    await_that(
        lambda: any("in misbehave\n" in p.read_text() for p in logs.glob("worker.*.log")), run
    )
    tell(log, 5, None)
    assert run.wait(DEADLINE) == 0
    assert forwards(log) == list(range(12))


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
def test_crash_is_told_with_its_signal_and_log(log, out, two_workers, caplog, crash, words):
    class Crashing(Lines):
        @staticmethod
        def forward(idx, **env):
            if idx == 5:
                sys.stdout.write("before the crash\n")
                sys.stdout.flush()
                crash()
            return Lines.forward(idx, **env)

    error = failing(lambda: Crashing(Provider(log), output_dir=out)(range(12)))
    assert re.search(rf"worker \d {words} with position 5 in hand", caplog.text)
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


class Crashing(Provider):
    """Ends the process that builds the env, as often as `times` says."""

    def __init__(self, log, times, crash):
        super().__init__(log)
        self.times, self.crash = times, crash

    def build_env_local(self):
        log, times, crash = self.config["log"], self.times, self.crash
        if len(notes(log, "crashes")) < times:
            note(log, "crashes", os.getpid())
            crash()
        return super().build_env_local()


def one_worker_process():
    set_parallel({"n_workers": 1, "unit_timeout": 60})


BUILD_CRASHES = [
    (lambda: ctypes.string_at(0), r"killed by signal 11 \(SIGSEGV\)"),
    (lambda: os.kill(os.getpid(), signal.SIGKILL), r"killed by signal 9 \(SIGKILL\)"),
    (lambda: os._exit(7), "ended with exit status 7"),
]


@pytest.mark.parametrize(("crash", "how"), BUILD_CRASHES, ids=["SIGSEGV", "SIGKILL", "os._exit"])
def test_crash_while_an_env_is_built_is_told_as_that(log, out, cluster, crash, how):
    one_worker_process()
    told = rf"worker 0: {how} while Crashing built its env \(its log is {out}/logs/worker.0.log\)"
    with pytest.raises(
        RunStopped, match=rf"^3 workers in a row died .*; the last one, {told}; 0 of"
    ):
        Lines(Crashing(log, 1000, crash), output_dir=out)(range(5))
    assert len(notes(log, "crashes")) == 3
    if "SIGSEGV" in how:
        assert "in build_env_local" in (out / "logs" / "worker.0.log").read_text()


def test_crash_of_one_build_is_made_good_by_the_next(log, out, cluster, caplog):
    one_worker_process()
    provider = Crashing(log, 1, BUILD_CRASHES[0][0])
    assert Lines(provider, output_dir=out)(range(5)) == lines_of(range(5))
    assert "worker 0: killed by signal 11 (SIGSEGV) while Crashing built its env" in caplog.text


def test_workers_that_are_told_to_end_while_they_have_nothing_in_hand_do_not_stop_a_run(
    log, out, cluster, caplog
):
    def be_told_to_end():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)  # the process ends meanwhile

    one_worker_process()
    provider = Crashing(log, 5, be_told_to_end)
    assert Lines(provider, output_dir=out)(range(5)) == lines_of(range(5))
    assert len(notes(log, "crashes")) == 5
    assert "died" not in caplog.text


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


# ending workers at once


def test_process_of_another_with_a_workers_number_is_left_alone():
    """The worker was on another host, or its number was given away when it had died."""
    script = "sleep 300 >/dev/null 2>&1 & echo $!"
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    stranger = int(said.stdout)
    with subprocess.Popen(["sleep", "300"]) as child:
        try:
            await_that(lambda: psutil.Process(stranger).ppid() != os.getpid())
            workers = {str(pid): Worker(None, pid=pid) for pid in (stranger, child.pid, 0)}
            driver.Driver.kill_workers(SimpleNamespace(workers=workers))
            assert child.wait(DEADLINE) == -signal.SIGKILL
            assert is_running(stranger)
        finally:
            os.kill(stranger, signal.SIGKILL)
