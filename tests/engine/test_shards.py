"""Shard directories: names, `done` records, offers, leftovers."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet3.errors import RunStopped
from espnet3.parallel.engine.coverage import Coverage, Shard, shard_entries
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.shards import (
    ShardNaming,
    commit,
    find_offers,
    read_done,
    remove_leftovers,
    shard_name,
)

RUN = "this-run"


def make_shard(
    run_dir: Path,
    first: int,
    last: int,
    *,
    epoch: int = 1,
    lease: int = 0,
    run_id: str = RUN,
    n_positions: int = 100,
) -> Shard:
    name = shard_name(ShardNaming(n_positions, epoch).shard_id(first, lease))
    shard = Shard(name, first, last, 0.25)
    (run_dir / name).mkdir()
    (run_dir / name / "text").write_text("utt1 hello\n")
    commit(run_dir / name, run_id, epoch, shard)
    return shard


def names(run_dir: Path) -> set[str]:
    return {path.name for path in run_dir.iterdir()}


@given(
    n=st.integers(1, 10**12),
    attempts=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 9999), st.integers(0, 999_999)),
        min_size=2,
        max_size=8,
    ),
)
def test_names_sort_by_position_as_text_and_as_numbers(
    n: int, attempts: list[tuple[float, int, int]]
) -> None:
    keys = {(int(at * n), epoch, lease) for at, epoch, lease in attempts}
    ids = {ShardNaming(n, epoch).shard_id(p, lease): p for p, epoch, lease in keys}
    assert len(ids) == len(keys)
    by_number = [ids[i] for i in sorted(ids)]
    assert by_number == sorted(by_number)
    assert [shard_name(i) for i in sorted(ids)] == sorted(map(shard_name, ids))
    assert all(shard_name(i).removeprefix("split.").isdigit() for i in ids)


@pytest.mark.parametrize(("epoch", "lease"), [(10_000, 0), (1, 1_000_000)])
def test_a_number_that_has_no_room_in_a_name_stops_the_run(epoch: int, lease: int) -> None:
    with pytest.raises(RunStopped, match="resume: false"):
        ShardNaming(10, epoch).shard_id(0, lease)


def test_a_committed_shard_is_read_as_it_was(tmp_path: Path) -> None:
    shard = make_shard(tmp_path, 3, 7)
    assert read_done(tmp_path / shard.name, RUN) == shard
    assert names(tmp_path / shard.name) == {"text", "done"}


def test_offers_are_what_no_ledger_names_by_position(tmp_path: Path) -> None:
    late = make_shard(tmp_path, 50, 59)
    known = make_shard(tmp_path, 20, 29)
    short = make_shard(tmp_path, 0, 4, lease=1)
    long = make_shard(tmp_path, 0, 9, lease=2)
    assert find_offers(tmp_path, RUN, {known.name}) == [long, short, late]


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b'{"run_id": "this-run", "epoch": 1, "fir',
        b"[1, 2]\n",
        b"\xff\xfe",
        b'{"run_id": "this-run", "epoch": 1, "first": 0}\n',
        json.dumps({"run_id": "another-run", "first": 0, "last": 1, "forward_seconds": 0}).encode(),
    ],
)
def test_a_record_that_is_not_whole_or_not_this_runs_is_no_offer(
    tmp_path: Path, record: bytes
) -> None:
    shard = make_shard(tmp_path, 0, 1)
    (tmp_path / shard.name / "done").write_bytes(record)
    assert read_done(tmp_path / shard.name, RUN) is None
    assert find_offers(tmp_path, RUN, set()) == []


def test_a_directory_without_done_is_no_offer(tmp_path: Path) -> None:
    shard = make_shard(tmp_path, 0, 1)
    (tmp_path / shard.name / "done").unlink()
    assert find_offers(tmp_path, RUN, set()) == []


def test_leftovers_go_and_everything_else_stays(tmp_path: Path) -> None:
    known = make_shard(tmp_path, 0, 9)
    lost = make_shard(tmp_path, 10, 19, lease=1)
    (tmp_path / lost.name / "done").unlink()
    overlapping = make_shard(tmp_path, 5, 14, epoch=2)
    newer = make_shard(tmp_path, 20, 29, epoch=3)
    foreign = ["split.1", "split.12", "split.train", "split.1e5", "splits", "logs", "data.split.1"]
    for name in foreign:
        (tmp_path / name).mkdir()
    (tmp_path / "text").write_text("published")
    assert remove_leftovers(tmp_path, ShardNaming(100, epoch=2), {known.name}) == 2
    assert names(tmp_path) == {known.name, newer.name, "text", *foreign}
    assert not (tmp_path / overlapping.name).exists()


def test_leftovers_of_a_run_over_fewer_or_more_items_go_too(tmp_path: Path) -> None:
    """After `resume: false` with another list; its names may have fewer or more digits."""
    for n_positions in (5, 100, 10**6):
        make_shard(tmp_path, 1, 2, run_id="former-run", n_positions=n_positions)
    assert remove_leftovers(tmp_path, ShardNaming(5000, epoch=2), set()) == 3
    assert names(tmp_path) == set()


def test_units_that_were_done_in_parts_are_in_the_record_and_in_what_the_ledger_says(
    tmp_path: Path,
) -> None:
    name = shard_name(ShardNaming(100, 1).shard_id(0, 0))
    shard = Shard(name, 0, 31, 0.25, 0.1, split=((8, 16), (24, 32)))
    (tmp_path / name).mkdir()
    commit(tmp_path / name, RUN, 1, shard)
    assert read_done(tmp_path / name, RUN) == shard
    coverage = Coverage()
    for entry in shard_entries(shard, Plan(100, 8)):
        coverage.apply(json.loads(json.dumps(entry)))
    assert list(coverage.split) == [(8, 16), (24, 32)]
    assert list(coverage.accepted) == [(0, 32)]
