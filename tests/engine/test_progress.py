"""What is said of how far a run is."""

import logging
import re

import pytest
from nothing import Nothing, Same

from espnet3.parallel.engine.progress import Progress, duration


def test_line_counts_items_where_durations_are_unknown():
    progress = Progress(goal=110, done=10, now=0.0)
    assert not progress.is_due(29.0)
    assert progress.is_due(30.0)
    line = progress.line(done=60, failed=1, now=100.0)
    assert line == "60 of 110 items done (55 %), 1 failed, 0.5 items/s, about 2 min left"
    assert not progress.is_due(129.0)


def test_line_goes_by_audio_where_it_can_as_the_long_ones_come_first():
    progress = Progress(goal=100, done=0, now=0.0, audio=7200.0)
    line = progress.line(done=10, failed=0, now=60.0, heard=3600.0, ahead=3600.0)
    assert "60 min of 2 h 0 min of audio at 60 times real time" in line
    assert line.endswith("about 60 s left")
    line = progress.line(done=10, failed=80, now=120.0, heard=3600.0, ahead=60.0)
    assert line.endswith("about 2.0 s left")  # what has failed is not waited for


def test_nothing_is_claimed_before_anything_is_done():
    assert (
        Progress(goal=4, done=2, now=0.0, audio=9.0).line(2, 0, 30.0) == "2 of 4 items done (50 %)"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4.21, "4.2 s"), (42.4, "42 s"), (89.9, "90 s"), (420, "7 min"), (12000, "3 h 20 min")],
)
def test_durations_are_written_as_people_do(seconds, words):
    assert duration(seconds) == words


def test_end_of_a_run_says_how_much_audio_it_was(tmp_path, caplog):
    caplog.set_level(logging.INFO, "espnet3")
    runner = Same(Nothing(), output_dir=tmp_path)
    runner(range(3), durations=[1.0, 2.0, 3.5])
    assert re.search(r"3 items in \S+ s \(6\.5 s of audio, RTF \S+\); 0 are left", caplog.text)
    caplog.clear()
    Same(Nothing(), output_dir=tmp_path / "other")(range(3))
    assert re.search(r"3 items in \S+ s; 0 are left", caplog.text)
