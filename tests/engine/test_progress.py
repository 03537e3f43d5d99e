"""What is said of how far a run is."""

import logging
import re

import pytest
from nothing import Nothing, Same

from espnet3.parallel.engine.pace import Pace
from espnet3.parallel.engine.progress import Standing, duration, line


def standing(**known):
    return Standing(
        **{"goal": 110, "done": 60, "failed": 0, "at": 100, "took": 100, "new": 50} | known
    )


def test_line_counts_items_where_durations_are_unknown():
    text = line(standing(failed=1, left=120.0), now=100)
    assert text == "60 of 110 items done (55 %), 1 failed, 0.5 items/s, about 2 min left"
    assert line(standing(left=120.0), now=190.0).endswith("about 30 s left")
    assert line(standing(), now=100, in_hand=7).startswith("67 of 110")


def test_line_tells_audio_and_workers_where_they_are_known():
    text = line(standing(audio=7200, heard=3600, worked=360, workers=3, wanted=4, lost=1), now=100)
    assert "60 min of 2 h 0 min of audio at 36 times real time (RTF 0.1)" in text
    assert text.endswith("time left: measuring, 3 of 4 workers (1 lost)")


def test_nothing_is_claimed_before_anything_is_measured():
    pace = Pace()
    pace.dealt(0, now=0.0)
    pace.back(0, now=9.0, done=5, audio=0.0)
    assert pace.left(items=100, audio=0.0, now=9.0, workers=1) is None


def test_time_left_goes_by_audio_as_the_long_ones_come_first():
    pace = Pace()
    for lease in range(2):  # 10 s of work for 100 s of audio, each a long item
        pace.dealt(lease, now=0.0)
        pace.back(lease, now=10.0, done=1, audio=100.0)
    assert pace.left(items=1000, audio=1000.0, now=10.0, workers=2) == 50.0
    assert pace.left(items=1000, audio=0.0, now=10.0, workers=2) == 5000.0


def test_what_has_been_in_hand_for_a_while_is_not_waited_for_again():
    pace = Pace()
    pace.dealt(0, now=0.0)
    pace.back(0, now=20.0, done=10, audio=0.0)
    pace.dealt(1, now=20.0)
    assert pace.left(items=10, audio=0.0, now=35.0, workers=1) == 5.0
    assert pace.left(items=0, audio=0.0, now=35.0, workers=1) == 0.0


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
