"""The ledger: what counts, what does not, and who may write."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from espnet3.errors import LedgerError, OwnershipLost, RunStopped
from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.ledger import Ledger, find_epochs, ledger_path, read_coverage
from espnet3.utils import durable

RUN = "this-run"


def shard(first: int, last: int, name: str = "") -> dict[str, Any]:
    name = name or f"split.1{first:03d}"
    return {"kind": "shard", "dir": name, "first": first, "last": last, "seconds": 0.5}


def failed(position: int, error: str = "ValueError") -> dict[str, Any]:
    return {"kind": "failed", "position": position, "error": error, "message": "bad"}


def start(run_dir: Path, run_id: str = RUN) -> Ledger:
    return Ledger.open_next_epoch(run_dir, run_id, {"host": "here", "pid": 1}, lambda: None)


def accepted(coverage: Coverage) -> list[tuple[int, int]]:
    return list(coverage.accepted)


def write_epoch(run_dir: Path, *entries: dict[str, Any]) -> Path:
    ledger = start(run_dir)
    ledger.append(*entries)
    ledger.close()
    return ledger_path(run_dir, ledger.epoch)


def test_what_is_appended_is_what_the_next_start_reads(tmp_path: Path) -> None:
    ledger = start(tmp_path)
    ledger.append(shard(0, 4), shard(7, 9))
    ledger.append(failed(5))
    ledger.append({"kind": "killed", "first": 6, "last": 6})
    ledger.append({"kind": "split", "first": 7, "last": 9})
    ledger.close()
    again = start(tmp_path)
    assert again.epoch == ledger.epoch + 1
    for coverage in (ledger.coverage, again.coverage, read_coverage(tmp_path, RUN)):
        assert accepted(coverage) == [(0, 5), (7, 10)]
        assert set(coverage.failed) == {5}
        assert coverage.kills[6, 7] == 1
        assert list(coverage.split) == [(7, 10)]
        assert list(coverage.remaining(12)) == [(6, 7), (10, 12)]
        assert coverage.forward_seconds == 1.0
    again.close()


def test_a_retried_position_is_to_be_done_and_a_dropped_shard_too(tmp_path: Path) -> None:
    write_epoch(tmp_path, shard(0, 4), failed(5), failed(6))
    write_epoch(tmp_path, {"kind": "retry", "positions": [5]})
    write_epoch(tmp_path, {"kind": "dropped", "first": 0, "last": 4})
    coverage = read_coverage(tmp_path, RUN)
    assert list(coverage.remaining(7)) == [(0, 6)]
    assert coverage.shards == {}


def test_only_a_merge_that_came_last_seals(tmp_path: Path) -> None:
    write_epoch(tmp_path, shard(0, 4), {"kind": "merged"})
    assert read_coverage(tmp_path, RUN).sealed
    write_epoch(tmp_path)
    assert read_coverage(tmp_path, RUN).sealed
    write_epoch(tmp_path, shard(5, 6))
    assert not read_coverage(tmp_path, RUN).sealed


def test_one_epoch_belongs_to_one_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two drivers start at the same moment: one is told to stop."""
    really_write_new = durable.write_new

    def be_overtaken(path: Path, data: bytes) -> None:
        monkeypatch.setattr(durable, "write_new", really_write_new)
        write_epoch(tmp_path, shard(0, 4))
        really_write_new(path, data)

    monkeypatch.setattr(durable, "write_new", be_overtaken)
    with pytest.raises(OwnershipLost, match="another driver has just started"):
        start(tmp_path)
    assert find_epochs(tmp_path) == [1]
    assert accepted(read_coverage(tmp_path, RUN)) == [(0, 5)]


def test_a_former_owner_writes_nothing_once_there_is_a_newer_epoch(tmp_path: Path) -> None:
    old = start(tmp_path)
    old.append(shard(0, 4))
    new = start(tmp_path)
    before = ledger_path(tmp_path, 1).read_bytes()
    with pytest.raises(OwnershipLost, match="start 2, this is 1"):
        old.append(shard(5, 9))
    with pytest.raises(OwnershipLost):
        old.check_owner()
    assert ledger_path(tmp_path, 1).read_bytes() == before
    assert accepted(old.coverage) == [(0, 5)]
    new.check_owner()
    old.close()
    new.close()


def test_what_a_former_owner_wrote_too_late_is_never_read(tmp_path: Path) -> None:
    path = write_epoch(tmp_path, shard(0, 4))
    write_epoch(tmp_path, shard(5, 6))
    with path.open("ab") as f:
        f.write(json.dumps(shard(5, 9)).encode() + b"\n")
    assert accepted(read_coverage(tmp_path, RUN)) == [(0, 7)]
    write_epoch(tmp_path, shard(7, 7))
    assert accepted(read_coverage(tmp_path, RUN)) == [(0, 8)]


def test_a_line_that_comes_while_the_next_epoch_opens_counts_for_both_or_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former owner is not dead at all; it writes between any two steps of the new one."""
    old = start(tmp_path)
    late = iter(range(100))

    def write_late(fd: int) -> None:
        monkeypatch.setattr(os, "fsync", lambda fd: None)
        try:
            position = next(late)
            old.append(shard(position, position))
        except OwnershipLost:
            pass
        monkeypatch.setattr(os, "fsync", write_late)

    old.append(shard(50, 59))
    monkeypatch.setattr(os, "fsync", write_late)
    new = start(tmp_path)
    monkeypatch.undo()
    assert accepted(new.coverage) == accepted(read_coverage(tmp_path, RUN))
    old.close()
    new.close()


@pytest.mark.parametrize("torn", [b'{"kind":"shard","dir":"split.1', b"{", b"\0\0\0\0", b"[]\n"])
def test_a_torn_last_line_is_as_if_never_written(tmp_path: Path, torn: bytes) -> None:
    path = write_epoch(tmp_path, shard(0, 4))
    with path.open("ab") as f:
        f.write(torn)
    assert accepted(read_coverage(tmp_path, RUN)) == [(0, 5)]
    write_epoch(tmp_path, shard(5, 9))
    assert accepted(read_coverage(tmp_path, RUN)) == [(0, 10)]


def test_a_whole_last_line_without_its_newline_does_not_count(tmp_path: Path) -> None:
    """Else a line that a dead owner's last write left half would count or not by its luck."""
    path = write_epoch(tmp_path, shard(0, 4), shard(5, 9))
    os.truncate(path, path.stat().st_size - 1)
    assert accepted(read_coverage(tmp_path, RUN)) == [(0, 5)]


def damage_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = b"#" * (len(lines[number - 1]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))


def test_the_newest_ledger_ends_at_its_first_bad_line(tmp_path: Path) -> None:
    """What is behind it returns as offers, or is done again."""
    path = write_epoch(tmp_path, shard(0, 4), shard(5, 9), shard(10, 14))
    damage_line(path, 3)
    assert accepted(read_coverage(tmp_path, RUN)) == [(0, 5)]


def test_a_damaged_older_ledger_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    path = write_epoch(tmp_path, shard(0, 4), shard(5, 9))
    write_epoch(tmp_path, shard(10, 14))
    damage_line(path, 2)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for read in (lambda: read_coverage(tmp_path, RUN), lambda: start(tmp_path)):
        with pytest.raises(LedgerError, match=r"ledger\.1\.jsonl, line 2 is damaged.*resume"):
            read()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_an_older_ledger_that_is_shorter_or_gone_is_refused(tmp_path: Path) -> None:
    path = write_epoch(tmp_path, shard(0, 4), shard(5, 9))
    write_epoch(tmp_path)
    os.truncate(path, path.stat().st_size - 3)
    with pytest.raises(LedgerError, match=r"ledger\.1\.jsonl has \d+ bytes.*counts on \d+"):
        read_coverage(tmp_path, RUN)
    path.unlink()
    with pytest.raises(LedgerError, match=r"ledger\.1\.jsonl is missing"):
        read_coverage(tmp_path, RUN)


@pytest.mark.parametrize("content", [b"", b'{"kind":"ep', b"\n"])
def test_a_newest_ledger_without_a_first_line_does_not_count(
    tmp_path: Path, content: bytes
) -> None:
    write_epoch(tmp_path, shard(0, 4))
    ledger_path(tmp_path, 2).write_bytes(content)
    assert accepted(read_coverage(tmp_path, RUN)) == [(0, 5)]
    ledger = start(tmp_path)
    assert ledger.epoch == 3
    assert accepted(ledger.coverage) == [(0, 5)]
    ledger.close()


def test_ledgers_of_another_run_do_not_count(tmp_path: Path) -> None:
    write_epoch(tmp_path, shard(0, 4))
    other = start(tmp_path, "another-run")
    assert other.epoch == 2
    assert accepted(other.coverage) == []
    other.append(shard(2, 9))
    other.close()
    assert accepted(read_coverage(tmp_path, "another-run")) == [(2, 10)]
    assert accepted(read_coverage(tmp_path, RUN)) == [(0, 5)]  # it may have been put back


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    header = {"kind": "epoch", "version": 99, "run_id": RUN, "epoch": 1, "older": {}}
    ledger_path(tmp_path, 1).write_text(json.dumps(header) + "\n")
    with pytest.raises(LedgerError, match=r"ledger\.1\.jsonl is not a ledger of version 1"):
        read_coverage(tmp_path, RUN)


@pytest.mark.parametrize(
    "entries",
    [
        [shard(0, 4), shard(4, 6)],
        [shard(0, 4), failed(3)],
        [failed(3), shard(0, 4)],
        [shard(5, 4)],
        [{"kind": "of the future"}],
    ],
)
def test_entries_that_contradict_each_other_are_refused(entries: list[dict[str, Any]]) -> None:
    coverage = Coverage()
    for entry in entries[:-1]:
        coverage.apply(entry)
    with pytest.raises(LedgerError):
        coverage.apply(entries[-1])


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    class FullDisk:
        """The ledger's file, on a disk with room for ten more bytes."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, data: bytes) -> int:
            return int(self._file.write(data[:10]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    ledger = start(tmp_path)
    ledger.append(shard(0, 4))
    before = ledger_path(tmp_path, 1).read_bytes()
    file = ledger._file
    ledger._file = FullDisk(file)  # type: ignore[assignment]
    with pytest.raises(RunStopped, match=r"ledger\.1\.jsonl: only 10 of .* The disk is full"):
        ledger.append(shard(5, 9))
    assert ledger_path(tmp_path, 1).read_bytes() == before
    assert accepted(ledger.coverage) == [(0, 5)]
    ledger._file = file
    ledger.append(shard(5, 9))
    ledger.close()
    assert accepted(read_coverage(tmp_path, RUN)) == [(0, 10)]


def test_a_directory_without_a_run_is_empty(tmp_path: Path) -> None:
    assert find_epochs(tmp_path / "missing") == []
    assert accepted(read_coverage(tmp_path, RUN)) == []
