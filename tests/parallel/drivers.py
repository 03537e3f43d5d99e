"""Waiting for drivers in processes of their own, and for what they bring about."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import espnet3

DEADLINE = 60.0  # seconds after which a condition is given up


def await_that(condition, driver=None):
    """Wait for something that another process brings about."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if driver is not None and driver.poll() is not None:
            pytest.fail(f"the driver ended with {driver.returncode}")
        if time.monotonic() > deadline:
            pytest.fail("it did not come about")
        time.sleep(0.02)


@contextmanager
def driver_of(*arguments):
    """Yields a driver, Python with these arguments; at the end it is killed if it still runs."""
    driver = subprocess.Popen([sys.executable, *map(str, arguments)], env=_with_this_espnet3())
    try:
        yield driver
    finally:
        driver.kill()
        driver.wait()


def kill_when(condition, *arguments):
    """Start a driver, Python with these arguments, and kill it once something has come about."""
    with driver_of(*arguments) as driver:
        await_that(condition, driver)


def is_running(pid):
    """Whether a process that is nobody's child here still does anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def running_of(driver):
    """Processes that a driver of `drivers` has started, and itself, as far as they still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if session == str(driver.pid) and state not in "ZX":
                found.append(stat.parent.name)
    return found


@contextmanager
def drivers(script, out, log):
    """Yields what starts a driver in a process of its own; at the end none is left.

    Each is the head of a process group, as under a terminal, so that a test can signal all of it;
    or it is really under `terminal`, the slave end of one.
    """
    started = []

    def start(n_items, terminal=None, **parallel):
        arguments = [str(out), str(log), str(n_items), json.dumps(parallel)]
        with (log / "driver.txt").open("ab") as text:
            process = subprocess.Popen(
                [sys.executable, str(script), *arguments],
                env=_with_this_espnet3(),
                stdout=text,
                stderr=text,
                start_new_session=terminal is None,
                preexec_fn=None if terminal is None else lambda: os.login_tty(terminal),
            )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()


def _with_this_espnet3():
    """An environment in which Python finds the package that is tested here."""
    root = str(Path(espnet3.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}
