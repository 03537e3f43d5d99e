"""`runner.parity`: whether an item's result depends on its batch."""

import pytest
from workloads import Lines, Provider, Squares, forwards, notes

from espnet3.errors import ConfigError
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.parallel import set_parallel

LENGTHS = [float(1 + i % 50) for i in range(200)]


class Padded(BaseRunner):
    """Forgets to mask: an item that is shorter than its batch's longest has a longer text."""

    @staticmethod
    def forward(idx, log):
        longest = max(LENGTHS[i] for i in idx)
        return [
            {"text": "well" + "?" * (LENGTHS[i] < longest and i != 3), "score": longest / 3}
            for i in idx
        ]


def test_a_runner_that_masks_has_no_differences(log, out):
    runner = Lines(Provider(log), output_dir=out, batch_size=8)
    found = runner.parity(range(200), LENGTHS, n=40)
    assert (found.n_items, found.n_batches, found.share) == (40, 5, 0.0)
    assert str(found) == "40 items, alone and in 5 batches: 0 differ (0.0 %)"
    assert not out.exists()
    done = forwards(log)
    assert len(done) == 2 * 40
    sampled = {LENGTHS[i] for i in done}
    assert min(sampled) < 3 < 48 < max(sampled)  # spread over the lengths


def test_differences_are_shown_with_both_texts(log, out):
    set_parallel(None, {"batch_seconds": 200})
    found = Padded(Provider(log), output_dir=out, batch_size=16).parity(range(200), LENGTHS, n=200)
    assert found.n_items == 200
    assert 0 < found.share < 1
    first = found.differences[0]
    assert (first.alone, first.batched) == ({"text": "well"}, {"text": "well?"})
    assert f"  {first.utterance}, text\n    alone:          'well'\n" in str(found)
    assert f"    in {first.batch_size:>4} at once: 'well?'\n" in str(found)
    assert "and " in str(found).splitlines()[-1]


def test_parity_needs_no_durations_and_no_output_dir(log):
    found = Squares(Provider(log), batch_size=8).parity(range(20), n=1)
    assert (found.n_items, found.n_batches, found.share) == (8, 1, 0.0)
    assert len(notes(log, "builds")) == 1


def test_parity_is_refused_where_there_is_nothing_to_compare(log):
    with pytest.raises(ConfigError, match="has no batch_size, so there are no batches"):
        Squares(Provider(log)).parity(range(20))
