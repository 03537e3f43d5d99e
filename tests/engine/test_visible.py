"""Shards of other hosts that the driver's host sees late."""

import shutil
import threading

import pytest
from nothing import Nothing, Same

from espnet3.parallel.engine import visible


@pytest.fixture
def on_network_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(visible, "NETWORK", {visible.file_system(tmp_path)})
    monkeypatch.setattr(visible, "PAUSE", 0.01)


def test_shard_that_shows_up_late_is_waited_for(tmp_path, on_network_disk):
    runner = Same(Nothing(), output_dir=tmp_path / "run")
    assert runner(range(5)) == list(range(5))
    (shard,) = (tmp_path / "run").glob("split.*")
    away = shard.rename(tmp_path / "away")
    timer = threading.Timer(0.3, lambda: away.rename(shard))
    timer.start()
    assert runner(range(5)) == list(range(5))
    timer.join()
    assert list((tmp_path / "run").glob("split.*")) == [shard]  # nothing was done again


def test_shard_that_never_shows_up_is_done_again(tmp_path, on_network_disk, monkeypatch):
    monkeypatch.setattr(visible, "LATE", 0.1)
    runner = Same(Nothing(), output_dir=tmp_path / "run")
    runner(range(5))
    for shard in (tmp_path / "run").glob("split.*"):
        shutil.rmtree(shard)
    assert runner(range(5)) == list(range(5))


def test_type_of_a_file_system_is_known(tmp_path):
    assert visible.file_system(tmp_path)
    assert visible.file_system(tmp_path / "nothing") == ""
