"""SIGINT, SIGTERM, SIGHUP: what is finished is committed, nothing stays, the next call goes on."""

import os
import pty
import signal
import time
from pathlib import Path

import pytest
from drivers import DEADLINE, await_that, is_running
from workloads import Lines, Provider, forget, forwards, lines_of, note, notes, pids, tell

INTERRUPTED = -signal.SIGINT  # Python's own end after KeyboardInterrupt: 130 for a shell
HELD = 6


def held(log):
    return str(HELD) in notes(log, "held")


def end_while_an_item_is_in_hand(driver, log, number, to):
    """Send a signal while item HELD is in hand; then let the item go."""
    await_that(lambda: held(log), driver)
    {"driver": os.kill, "group": os.killpg}[to](driver.pid, number)
    await_that(lambda: "Stopping after" in (log / "driver.txt").read_text())
    tell(log, HELD, None)
    return driver.wait(DEADLINE)


@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("to", ["driver", "group"])
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
def test_first_signal_commits_and_leaves(log, out, start_driver, n_workers, to, number, status):
    tell(log, HELD, "hold")
    driver = start_driver(40, n_workers=n_workers)
    assert end_while_an_item_is_in_hand(driver, log, number, to) == status
    assert not any(is_running(pid) for pid in pids(log))
    assert "goes on there" in (log / "driver.txt").read_text()
    before = forwards(log)
    assert HELD in before, "the item in hand was not finished"
    forget(log)
    assert start_driver(40).wait(DEADLINE) == 0
    assert sorted([*before, *forwards(log)]) == list(range(40)), "something was done twice"
    assert (out / "text").read_bytes() + (out / "ids").read_bytes() == lines_of(range(40))


@pytest.mark.parametrize("n_workers", [1, 2])
def test_second_ctrl_c_ends_at_once(log, out, start_driver, n_workers):
    tell(log, HELD, "hold")
    driver = start_driver(40, n_workers=n_workers)
    await_that(lambda: held(log), driver)
    os.killpg(driver.pid, signal.SIGINT)
    await_that(lambda: "Stopping after" in (log / "driver.txt").read_text())
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(DEADLINE) in (INTERRUPTED, 130)
    await_that(lambda: not any(is_running(pid) for pid in pids(log)))
    tell(log, HELD, None)
    assert start_driver(40).wait(DEADLINE) == 0
    assert (out / "text").read_bytes() + (out / "ids").read_bytes() == lines_of(range(40))


def test_second_ctrl_c_ends_what_workers_have_started(log, start_driver):
    tell(log, HELD, "hold a program")
    driver = start_driver(40, n_workers=2)
    await_that(lambda: notes(log, "programs"), driver)
    for _ in range(2):  # to the driver alone: under a terminal the program would get it, too
        os.kill(driver.pid, signal.SIGINT)
        await_that(lambda: "Stopping after" in (log / "driver.txt").read_text())
    assert driver.wait(DEADLINE) in (INTERRUPTED, 130)
    await_that(lambda: not any(is_running(int(pid)) for pid in notes(log, "programs")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["TERM", "HUP"])
def test_second_signal_that_is_no_ctrl_c_changes_nothing(log, out, start_driver, number):
    tell(log, HELD, "hold")
    driver = start_driver(40, n_workers=2, resume=False)
    await_that(lambda: held(log), driver)
    os.killpg(driver.pid, number)
    await_that(lambda: "Stopping after" in (log / "driver.txt").read_text())
    os.killpg(driver.pid, number)
    tell(log, HELD, None)
    assert driver.wait(DEADLINE) == 128 + number
    assert HELD in forwards(log)
    text = (log / "driver.txt").read_text()
    assert "the same command without `resume: false` goes on there" in text
    assert start_driver(40).wait(DEADLINE) == 0
    assert sorted(forwards(log)) == list(range(40)), "something was done twice"


def test_hangup_that_is_ignored_stays_ignored(log, out, start_driver):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; a child inherits it
    try:
        tell(log, HELD, "hold")
        driver = start_driver(40, n_workers=2)
        await_that(lambda: held(log), driver)
        os.killpg(driver.pid, signal.SIGHUP)
        tell(log, HELD, None)
        assert driver.wait(DEADLINE) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert forwards(log) == list(range(40))


def test_terminal_that_is_closed(log, out, start_driver):
    """What the driver says can go nowhere any more."""
    terminal, its_end = pty.openpty()
    tell(log, HELD, "hold")
    driver = start_driver(40, terminal=its_end)
    os.close(its_end)
    await_that(lambda: held(log), driver)
    os.close(terminal)
    tell(log, HELD, None)
    assert driver.wait(DEADLINE) == 129
    assert forwards(log) == list(range(HELD + 1))
    assert start_driver(40).wait(DEADLINE) == 0
    assert forwards(log) == list(range(40))


def test_sigterm_to_one_worker_costs_nothing(log, out, start_driver):
    tell(log, HELD, "hold")
    driver = start_driver(40, n_workers=2)
    await_that(lambda: held(log), driver)
    holder = next(
        int(line.split()[1]) for line in notes(log, "forwards") if line.split()[0] == str(HELD)
    )
    os.kill(holder, signal.SIGTERM)
    tell(log, HELD, None)
    assert driver.wait(DEADLINE) == 0
    assert forwards(log) == list(range(40)), "something was done twice"
    assert not Path(f"/proc/{holder}").exists()
    assert not list((out / "logs").glob("inflight.*"))
    assert (out / "text").read_bytes() + (out / "ids").read_bytes() == lines_of(range(40))


def test_child_that_forward_forks_ends_when_it_is_asked_to(log, out):
    class Forking(Lines):
        @staticmethod
        def forward(idx, dataset, model, log, **env):
            child = os.fork()
            while not child:
                time.sleep(1)
            os.kill(child, signal.SIGTERM)  # as a pool does, perhaps before the child has begun
            note(log, "ends", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            return Lines.forward(idx, dataset, model, log)

    assert Forking(Provider(log), output_dir=out)(range(20)) == lines_of(range(20))
    assert notes(log, "ends") == [str(-signal.SIGTERM)] * 20
