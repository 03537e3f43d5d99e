"""Waiting for drivers in processes of their own, and for what they bring about."""

import time
from pathlib import Path

import pytest

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


def is_running(pid):
    """Whether a process that is nobody's child here still does anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
