"""Faults of the product that random lives have found, each as the smallest life that shows it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fragile import tell
from place import Place, await_that
from start import END_LIMIT, Start


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "life")


@contextmanager
def stalled(place: Place, **run: float) -> Iterator[Start]:
    """A driver with two workers, one of which hangs in C code and holds the GIL."""
    tell(place.log, 3, "stall")
    start = Start(place, 1, items=range(40), workers=2, run=run, pace=0.01)
    try:
        assert await_that(lambda: (place.log / "deaths").exists(), END_LIMIT)
        yield start
    finally:
        start.kill_all()


def test_driver_that_is_asked_to_end_does_not_wait_for_a_worker_that_hangs(place: Place) -> None:
    with stalled(place, unit_timeout=3.0) as start:
        start.send(signal.SIGTERM)
        assert start.wait() == 128 + signal.SIGTERM


def test_worker_that_hangs_in_c_code_does_not_outlive_its_driver(place: Place) -> None:
    with stalled(place) as start:
        start.send(signal.SIGKILL)
        assert start.wait() == -signal.SIGKILL  # which raises where there are orphans
