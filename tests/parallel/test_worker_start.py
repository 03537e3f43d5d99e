"""Worker processes that are ended while they start, and signals while workers start or leave."""

import os
import signal
from pathlib import Path

import pytest
from drivers import DEADLINE, await_that, drivers, running_of
from workloads import forwards, lines_of, notes, tell


@pytest.fixture
def start_driver(log, out):
    with drivers(Path(__file__).with_name("run_begin.py"), out, log) as start:
        yield start


def said(log):
    return (log / "driver.txt").read_text()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_worker_that_a_signal_ends_while_it_starts_is_started_again(log, out, start_driver, name):
    (log / f"once.{name}").touch()
    assert start_driver(6, n_workers=2).wait(DEADLINE) == 0
    assert len(notes(log, "begun")) == 3
    assert (out / "text").read_bytes() + (out / "ids").read_bytes() == lines_of(range(6))


def test_workers_that_signals_end_again_and_again_are_told_as_that(log, start_driver):
    (log / "always.SIGTERM").touch()
    assert start_driver(6, n_workers=2).wait(DEADLINE) == 1
    assert "RunStopped: the worker processes could not start: worker " in said(log)
    assert ": killed by signal 15 (SIGTERM) while it started, 3 times" in said(log)
    assert "__main__" not in said(log).rpartition("RunStopped")[2]
    assert len(notes(log, "begun")) == 6


def test_workers_that_end_by_themselves_are_not_started_again(log, start_driver):
    (log / "leave").touch()
    assert start_driver(6, n_workers=2).wait(DEADLINE) == 1
    assert ": ended with exit status 5 while it started; what it said stands above" in said(log)
    assert len(notes(log, "begun")) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_signal_while_workers_start_ends_in_good_order(log, out, start_driver, number):
    (log / "hold").touch()
    driver = start_driver(6, n_workers=2)
    await_that(lambda: len(notes(log, "begun")) == 2, driver)
    os.killpg(driver.pid, number)
    if number == signal.SIGTERM:  # workers have no answer to it yet: others take their place
        await_that(lambda: len(notes(log, "begun")) == 4, driver)
    (log / "hold").unlink()
    assert driver.wait(DEADLINE) == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in said(log)
    assert "Exception" not in said(log)
    await_that(lambda: not running_of(driver))
    assert not (out / "text").exists()
    assert start_driver(6, n_workers=1).wait(DEADLINE) == 0


def press_ctrl_c_while_workers_leave(driver, log, out):
    """One of them is held up, so that this takes seconds."""
    await_that(lambda: len(forwards(log)) == 6 and notes(log, "held"), driver)
    await_that(lambda: not list((out / "logs").glob("inflight.*")), driver)
    os.killpg(driver.pid, signal.SIGINT)
    await_that(lambda: "Stopping when the workers have left; Ctrl-C again" in said(log))


def test_ctrl_c_while_workers_leave_waits_for_them(log, out, start_driver):
    (log / "hold.builds").touch()
    driver = start_driver(6, n_workers=2)
    press_ctrl_c_while_workers_leave(driver, log, out)
    (log / "hold.builds").unlink()
    assert driver.wait(DEADLINE) == 130
    assert "6 of 6 items are done and kept" in said(log)
    assert "Traceback" not in said(log)
    assert "Exception" not in said(log)
    await_that(lambda: not running_of(driver))
    assert start_driver(6, n_workers=1).wait(DEADLINE) == 0
    assert forwards(log) == list(range(6))


def test_second_ctrl_c_while_workers_leave_ends_quietly_and_leaves_none(log, out, start_driver):
    (log / "hold.builds").touch()
    driver = start_driver(6, n_workers=2)
    press_ctrl_c_while_workers_leave(driver, log, out)
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(DEADLINE) == 130
    await_that(lambda: not running_of(driver))
    for noise in ("Traceback", "Exception", "leaked"):
        assert noise not in said(log)
    assert start_driver(6, n_workers=1).wait(DEADLINE) == 0
    assert forwards(log) == list(range(6))


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_ctrl_c_while_a_session_is_closed_for_a_signal_ends_at_once(log, start_driver, first):
    (log / "session").touch()
    (log / "hold.builds").touch()
    tell(log, 3, "hold")
    driver = start_driver(6, n_workers=2)
    await_that(lambda: len(notes(log, "held")) == 2, driver)
    os.kill(driver.pid, first)
    await_that(lambda: "Stopping after the items in hand" in said(log))
    tell(log, 3, None)
    await_that(lambda: "goes on there" in said(log))
    os.kill(driver.pid, signal.SIGINT)
    assert driver.wait(DEADLINE) == 130
    assert said(log).count("Stopping ") == 1
    assert "Traceback" not in said(log)
    await_that(lambda: not running_of(driver))


def test_driver_that_is_killed_leaves_no_warning(log, start_driver):
    (log / "hold.builds").touch()
    driver = start_driver(6, n_workers=2)
    await_that(lambda: notes(log, "held"), driver)
    driver.kill()
    driver.wait()
    await_that(lambda: not running_of(driver))  # the resource tracker is the last
    assert said(log) == ""
