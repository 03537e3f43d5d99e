"""Faults of the product that random lives have found, each as the smallest life that shows it."""

import signal
from pathlib import Path

import pytest
from fragile import tell
from place import Place, await_that
from start import END_LIMIT, Start


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "life")


def test_driver_that_is_asked_to_end_does_not_wait_for_a_worker_that_hangs(place: Place) -> None:
    tell(place.log, 3, "stall")
    start = Start(place, 1, n_items=40, workers=2, run={"unit_timeout": 3.0}, pace=0.01)
    try:
        assert await_that(lambda: (place.log / "deaths").exists(), END_LIMIT)
        start.send(signal.SIGTERM)
        assert start.wait() == 128 + signal.SIGTERM
    finally:
        start.kill_all()
