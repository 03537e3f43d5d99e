"""Who owns a run directory, across processes, hosts and pid namespaces. Everybody is real here."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import espnet3
from espnet3.errors import OwnershipLost, RunInUse
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine import heartbeat, watch
from espnet3.parallel.engine.directory import OpenRun, own_run
from espnet3.parallel.engine.work import Work

OWNER = """
import os, sys, time
from pathlib import Path
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine import heartbeat
from espnet3.parallel.engine.directory import own_run
from espnet3.parallel.engine.work import Work

heartbeat.BEAT = 0.02
fork_first = sys.argv[2:] == ["fork"]
with own_run(Path(sys.argv[1]), range(10), Work(10), {"model": "tiny"}, RunConfig()):
    if fork_first and os.fork() == 0:
        time.sleep(600)  # it has what its parent had open
    print("mine", flush=True)
    sys.stdin.read()
print("released", flush=True)
sys.stdin.close()
"""
ON_ANOTHER_HOST = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
IN_A_PID_NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]

Start = Callable[..., "subprocess.Popen[bytes]"]


def own(run_dir: Path, **config: bool) -> contextlib.AbstractContextManager[OpenRun]:
    return own_run(run_dir, range(10), Work(10), {"model": "tiny"}, RunConfig(**config))


def record(run_dir: Path) -> dict[str, object]:
    owner: dict[str, object] = json.loads((run_dir / "lock").read_text())
    return owner


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an owner in a process of its own, and wait until it is one."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, under: list[str] | None = None) -> "subprocess.Popen[bytes]":
            command = [*(under or []), sys.executable, "-c", OWNER, str(tmp_path), *arguments]
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(Path(espnet3.__file__).parents[1])},
                start_new_session=True,
            )
            stack.enter_context(process)
            stack.callback(kill_group, process)
            assert process.stdout is not None
            assert process.stderr is not None
            if process.stdout.readline() != b"mine\n":
                why = process.stderr.read().decode()
                if under and "unshare" in why:
                    pytest.skip(f"no namespaces here: {why.strip()}")
                pytest.fail(why)
            return process

        yield start


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watch a heartbeat for half a second, not for three minutes."""
    monkeypatch.setattr(heartbeat, "BEAT", 0.02)
    monkeypatch.setattr(watch, "PATIENCE", 0.5)


@pytest.fixture
def in_no_case_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it a failure to wait for a heartbeat."""

    def fail(self: object) -> float:
        pytest.fail("this waits for a heartbeat")

    monkeypatch.setattr(watch.Watch, "patience", fail)


# --- another host


def test_a_living_owner_on_another_host_is_seen_by_its_heartbeat(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.02)
    owner = start(under=ON_ANOTHER_HOST)
    with pytest.raises(RunInUse, match=rf"pid {owner.pid} on elsewhere.*It lives"), own(tmp_path):
        pass
    assert record(tmp_path)["host"] == "elsewhere"


def test_an_owner_on_another_host_whose_heartbeat_stands_is_presumed_dead(
    tmp_path: Path, start: Start, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    owner = start(under=ON_ANOTHER_HOST)
    owner.send_signal(signal.SIGSTOP)
    with caplog.at_level(logging.WARNING), own(tmp_path) as run:
        waits, takes_over = (r.getMessage() for r in caplog.records)
        assert f"owned by pid {owner.pid} on elsewhere since" in waits
        assert "heartbeat (every 0.02 s): waiting" in waits
        assert "taken over from" in takes_over
        assert "presumed dead" in takes_over
        ours = record(tmp_path)
        owner.send_signal(signal.SIGCONT)
        assert owner.stdin is not None
        assert owner.stdout is not None
        owner.stdin.close()
        assert owner.stdout.readline() == b"released\n"
        now = record(tmp_path)  # it did not empty, or write into, what is ours
        assert now["pid"] == ours["pid"] == os.getpid()
        run.ledger.check_owner()


def test_an_owner_on_another_host_that_ended_in_order_is_not_waited_for(
    tmp_path: Path, start: Start, in_no_case_waiting: None
) -> None:
    owner = start(under=ON_ANOTHER_HOST)
    assert owner.stdin is not None
    owner.stdin.close()
    owner.wait()
    with own(tmp_path) as run:
        assert run.ledger.epoch == 2


@pytest.mark.parametrize("name", ["another", "the same"])
def test_a_host_is_waited_for_three_times_the_longest_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Its heartbeat may have to wait for C code; and two machines may have the same name."""
    with own(tmp_path) as run:
        ledger = run.ledger
        entry = {"kind": "shard", "dir": "split.1", "first": 0, "last": 4, "seconds": 150.0}
        ledger.append({**entry, "longest": 77.0})
    owner = {"host": os.uname().nodename if name == "the same" else "elsewhere", "pid": 7}
    (tmp_path / "lock").write_text(json.dumps({**owner, "boot": "another", "ticks": 1}) + "\n")

    class Waiting(Exception):
        pass

    def wait(seconds: float) -> None:
        raise Waiting

    monkeypatch.setattr(time, "sleep", wait)
    with pytest.raises(Waiting), own(tmp_path):
        pass
    assert "If none comes for 231 s" in caplog.text
    assert record(tmp_path)["pid"] == 7


def test_allow_overwrite_lock_does_not_wait_for_another_host(
    tmp_path: Path, start: Start, in_no_case_waiting: None
) -> None:
    start(under=ON_ANOTHER_HOST)
    with own(tmp_path, allow_overwrite_lock=True) as run:
        assert run.ledger.epoch == 2
        assert record(tmp_path)["pid"] == os.getpid()


def test_of_two_who_wait_for_the_same_dead_owner_one_gets_the_run(
    tmp_path: Path, impatient: None, start: Start
) -> None:
    start(under=ON_ANOTHER_HOST).kill()
    command = [sys.executable, "-c", f"from espnet3.parallel.engine import watch\n"
               f"watch.PATIENCE = 0.5\n{OWNER}", str(tmp_path)]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": str(Path(espnet3.__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, env=environ, **pipes) for _ in range(2)]
    try:
        done = set()
        while not done:
            done = {process for process in both if process.poll() is not None}
            time.sleep(0.01)
        (loser,) = done
        assert b"RunInUse" in loser.stderr.read() or b"OwnershipLost" in loser.stderr.read()
    finally:
        for process in both:
            process.kill()
            process.communicate()


# --- this host


def test_a_suspended_owner_is_refused_with_a_hint_and_can_be_taken_over(
    tmp_path: Path, start: Start, in_no_case_waiting: None
) -> None:
    owner = start()
    owner.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, owner.pid, os.WSTOPPED)
    with pytest.raises(RunInUse, match=rf"suspended: `kill -CONT {owner.pid}`"), own(tmp_path):
        pass
    with own(tmp_path, allow_overwrite_lock=True) as run:
        owner.send_signal(signal.SIGCONT)
        assert owner.stdin is not None
        owner.stdin.close()
        owner.wait()
        assert record(tmp_path)["pid"] == os.getpid()
        run.ledger.check_owner()
        with pytest.raises(RunInUse, match="another runner call of this process"), own(tmp_path):
            pass
    assert (tmp_path / "lock").read_bytes() == b""


def test_this_very_process_is_never_taken_over_from(tmp_path: Path) -> None:
    refused = pytest.raises(RunInUse, match="another runner call of this process")
    with own(tmp_path) as run:
        with refused, own(tmp_path, allow_overwrite_lock=True):
            pass
        run.ledger.check_owner()


def test_a_former_owner_finds_out_before_its_next_line(tmp_path: Path, start: Start) -> None:
    start()
    with own(tmp_path, allow_overwrite_lock=True) as run:
        other = start_over(tmp_path)
        assert other.wait(60) == 0
        with pytest.raises(OwnershipLost):
            run.ledger.append({"kind": "merged"})


def start_over(run_dir: Path) -> "subprocess.Popen[bytes]":
    """A process that takes the run over, and is done."""
    text = OWNER.replace("RunConfig()", "RunConfig(allow_overwrite_lock=True)")
    environ = {**os.environ, "PYTHONPATH": str(Path(espnet3.__file__).parents[1])}
    command = [sys.executable, "-c", text, str(run_dir)]
    return subprocess.Popen(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


@pytest.mark.parametrize("end", ["in order", "killed"])
def test_a_child_that_the_owner_left_does_not_keep_the_run(
    tmp_path: Path, start: Start, in_no_case_waiting: None, end: str
) -> None:
    owner = start("fork")
    if end == "killed":
        owner.kill()
        owner.wait()
    else:
        assert owner.stdin is not None
        assert owner.stdout is not None
        owner.stdin.close()
        assert owner.stdout.readline() == b"released\n"
    with own(tmp_path) as run:
        assert run.ledger.epoch == 2


def test_a_child_that_leaves_the_block_releases_nothing(tmp_path: Path) -> None:
    pid = 0
    with contextlib.suppress(SystemExit), own(tmp_path):
        pid = os.fork()
        if pid == 0:
            raise SystemExit
        assert os.waitpid(pid, 0)[1] == 0
        assert record(tmp_path)["pid"] == os.getpid()
    if pid == 0:
        os._exit(0)


def test_a_pid_of_another_namespace_says_nothing(
    tmp_path: Path, start: Start, in_no_case_waiting: None
) -> None:
    owner = start(under=IN_A_PID_NAMESPACE)
    assert record(tmp_path)["pid"] != owner.pid
    with pytest.raises(RunInUse, match="is owned by pid"), own(tmp_path):
        pass
    kill_group(owner)
    owner.wait()
    await_release(tmp_path)


def await_release(run_dir: Path) -> None:
    """Own the run as soon as its owner's process, nobody's child here, is gone."""
    while True:
        with contextlib.suppress(RunInUse), own(run_dir) as run:
            assert run.ledger.epoch == 2
            return
        time.sleep(0.01)


def test_an_owner_before_the_last_boot_is_dead(tmp_path: Path, in_no_case_waiting: None) -> None:
    with own(tmp_path):
        before = {**record(tmp_path), "boot": "an older one"}
    if not before["machine"]:
        pytest.skip("this machine has no id, so it may be another of the same name")
    (tmp_path / "lock").write_text(json.dumps(before) + "\n")
    with own(tmp_path) as run:
        assert run.ledger.epoch == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 50, b"[1]\n", b"\xff\xfe", b'{"beat": 1}'])
def test_a_lock_file_without_an_owner_is_free(
    tmp_path: Path, in_no_case_waiting: None, content: bytes
) -> None:
    (tmp_path / "lock").write_bytes(content)
    with own(tmp_path):
        assert record(tmp_path)["pid"] == os.getpid()


# --- the heartbeat


def test_the_heartbeat_counts_up_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    with own(tmp_path):
        first = record(tmp_path)
        size = (tmp_path / "lock").stat().st_size
        while int(str(record(tmp_path)["beat"])) < 3:
            time.sleep(0.01)
        assert {**record(tmp_path), "beat": first["beat"]} == first
        assert (tmp_path / "lock").stat().st_size == size
    assert (tmp_path / "lock").read_bytes() == b""
