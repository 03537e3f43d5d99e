"""Opening a run directory: one owner, the same run, what dead owners left."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from espnet3.errors import IdentityChanged, LedgerError, RunInUse, RunStopped
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine import shards
from espnet3.parallel.engine.begin import PREVIOUS, SET_ASIDE
from espnet3.parallel.engine.coverage import Shard
from espnet3.parallel.engine.directory import (
    OpenRun,
    check_shards,
    own_run,
    read_summary,
    seal,
)
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.work import Work

IDENTITY = {"model": {"name": "tiny", "beam": 5}, "dataset": {"path": "data/test"}}


def own(
    run_dir: Path,
    items: Sequence[Any] = range(10),
    identity: dict[str, Any] | None = None,
    resume: bool = True,
    code: dict[str, str] | None = None,
    **config: Any,
) -> AbstractContextManager[OpenRun]:
    settings = RunConfig(**config)
    return own_run(
        run_dir, items, Work(len(items)), identity or IDENTITY, settings, resume=resume, code=code
    )


def make_offer(run: OpenRun, first: int, last: int, lease: int = 0) -> Shard:
    """What a worker leaves that has committed and not yet reported."""
    naming = shards.ShardNaming(run.manifest.positions, run.ledger.epoch)
    shard = Shard(shards.shard_name(naming.shard_id(first, lease)), first, last, 0.5)
    (run.run_dir / shard.name).mkdir()
    shards.commit(run.run_dir / shard.name, run.manifest.run_id, run.ledger.epoch, shard)
    return shard


def accept(run: OpenRun, first: int, last: int, lease: int = 0) -> Shard:
    shard = make_offer(run, first, last, lease)
    entry = {"kind": "shard", "dir": shard.name, "first": first, "last": last, "seconds": 0.5}
    run.ledger.append(entry)
    return shard


def fail(run: OpenRun, position: int, error: str) -> None:
    entry = {"kind": "failed", "position": position, "error": error, "message": "bad"}
    run.ledger.append(entry)


def shard_dirs(run_dir: Path) -> set[str]:
    return {path.name for path in run_dir.glob("split.*")}


# --- one owner


def test_a_second_owner_in_this_process_is_refused(tmp_path: Path) -> None:
    with (
        own(tmp_path),
        pytest.raises(RunInUse, match="in use by another runner call of this process"),
        own(tmp_path),
    ):
        pass
    with own(tmp_path) as run:
        assert run.ledger.epoch == 2


OWN_AND_WAIT = """
import sys
from pathlib import Path
from espnet3.parallel.config import RunConfig
from espnet3.parallel.engine.directory import own_run
from espnet3.parallel.engine.work import Work
with own_run(Path(sys.argv[1]), range(10), Work(10), {"model": "tiny"}, RunConfig()):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_an_owner_in_another_process_is_named_and_its_death_frees_the_run_at_once(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", OWN_AND_WAIT, str(tmp_path), "api_token=verysecret"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"mine\n"
            with pytest.raises(RunInUse) as refusal, own(tmp_path, identity={"model": "tiny"}):
                pass
            assert f"pid {owner.pid} on {socket.gethostname()} since" in str(refusal.value)
            assert "verysecret" not in str(refusal.value)
        finally:
            owner.send_signal(signal.SIGKILL)
            owner.wait()
        with own(tmp_path, identity={"model": "tiny"}) as run:
            assert run.ledger.epoch == 2


def test_an_error_inside_lets_go_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), own(tmp_path):
        raise ZeroDivisionError
    with own(tmp_path):
        pass


# --- the same run


def test_the_manifest_of_a_long_list_is_short(tmp_path: Path) -> None:
    with own(tmp_path, range(100_000_000)):
        pass
    assert (tmp_path / "manifest.json").stat().st_size < 4096
    with own(tmp_path, range(100_000_000)) as run:
        assert run.manifest.positions == 100_000_000


def test_a_changed_setup_is_refused_naming_keys_with_old_and_new_values(tmp_path: Path) -> None:
    with own(tmp_path) as run:
        run_id = run.manifest.run_id
    changed = {"model": {"name": "tiny", "beam": 9}, "dataset": IDENTITY["dataset"], "extra": 1}
    with pytest.raises(IdentityChanged) as refusal, own(tmp_path, identity=changed):
        pass
    message = str(refusal.value)
    assert "model.beam: 5 -> 9" in message
    assert "extra: (not set) -> 1" in message
    assert "model.name" not in message
    assert "dataset" not in message
    for way_on in ("resume: false", "another output_dir", "accept_changes: true"):
        assert way_on in message
    with own(tmp_path) as run:
        assert run.manifest.run_id == run_id


def test_changes_may_be_accepted_once_and_for_all(tmp_path: Path) -> None:
    changed = {"model": {"name": "large"}}
    with own(tmp_path) as run:
        accept(run, 0, 4)
    with own(tmp_path, identity=changed, accept_changes=True) as run:
        assert list(run.ledger.coverage.accepted) == [(0, 5)]
    with own(tmp_path, identity=changed):
        pass


def test_a_changed_secret_is_noticed_and_not_shown(tmp_path: Path) -> None:
    with own(tmp_path, identity={"model": {"api_token": "first-secret"}}):
        pass
    with (
        pytest.raises(IdentityChanged) as refusal,
        own(tmp_path, identity={"model": {"api_token": "second-secret"}}),
    ):
        pass
    kept = "".join(p.read_text() for p in tmp_path.iterdir() if p.is_file())
    for secret in ("first-secret", "second-secret"):
        assert secret not in str(refusal.value) + kept
    assert "model" in str(refusal.value)


@pytest.mark.parametrize("items", [range(11), list(range(1, 11)), [*range(9), "9"]])
@pytest.mark.parametrize("accept_changes", [False, True])
def test_a_changed_item_list_is_never_accepted(
    tmp_path: Path, items: Sequence[Any], accept_changes: bool
) -> None:
    with own(tmp_path):
        pass
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with (
        pytest.raises(IdentityChanged, match=r"another item list.*resume: false"),
        own(tmp_path, items, accept_changes=accept_changes),
    ):
        pass
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_a_start_that_a_damaged_ledger_refuses_changes_nothing(tmp_path: Path) -> None:
    """Found by a random life: it had mended the other files first."""
    for first in (0, 2):
        with own(tmp_path) as run:
            accept(run, first, first + 1)
    ledger = tmp_path / "ledger.1.jsonl"
    ledger.write_bytes(b"#" * ledger.stat().st_size)
    (tmp_path / "config.yaml").write_bytes(b"garbage")
    shutil.rmtree(tmp_path / "logs")
    before = {p.name: p.is_dir() or p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(LedgerError), own(tmp_path):
        pass
    assert {p.name: p.is_dir() or p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 99}'])
def test_a_damaged_manifest_is_refused_until_told_to_start_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(LedgerError, match=r"manifest\.json"), own(tmp_path):
        pass
    assert (tmp_path / "manifest.json").read_text() == text
    with own(tmp_path, resume=False) as run:
        assert list(run.ledger.coverage.remaining(10)) == [(0, 10)]


# --- starting over


def test_starting_over_keeps_the_old_run_until_the_new_one_is_complete(tmp_path: Path) -> None:
    with own(tmp_path) as run:
        old = Manifest.read(tmp_path)
        old_shards = {accept(run, 0, 4).name, accept(run, 5, 9, lease=1).name}
        seal(run)
    with own(tmp_path, identity={"model": "other"}, resume=False) as run:
        assert list(run.ledger.coverage.remaining(10)) == [(0, 10)]
        first_half = accept(run, 0, 4)
    assert shard_dirs(tmp_path) == {*old_shards, first_half.name}
    assert json.loads((tmp_path / PREVIOUS).read_text())["run_id"] == old.run_id
    with own(tmp_path, identity={"model": "other"}) as run:
        assert list(run.ledger.coverage.remaining(10)) == [(5, 10)]
        second_half = accept(run, 5, 9)
        check_shards(run)
        seal(run)
    assert shard_dirs(tmp_path) == {first_half.name, second_half.name}
    assert not any((tmp_path / name).exists() for name in SET_ASIDE)


def test_the_old_run_comes_back_with_its_manifest(tmp_path: Path) -> None:
    with own(tmp_path) as run:
        old = {accept(run, 0, 4), accept(run, 5, 9, lease=1)}
        seal(run)
    for _ in range(2):  # starting over twice must not cost the complete one
        with own(tmp_path, resume=False) as run:
            accept(run, 0, 6)
    put_back(tmp_path)
    with own(tmp_path) as run:
        assert set(run.ledger.coverage.shards.values()) == old
        assert len(check_shards(run)) == 2


def put_back(run_dir: Path) -> None:
    """As docs/run-directory.md says."""
    os.replace(run_dir / PREVIOUS, run_dir / "manifest.json")


def test_a_run_that_is_put_back_is_as_finished_as_it_was(tmp_path: Path) -> None:
    old, new = {"model": "old code"}, {"model": "new code"}
    with own(tmp_path, code=old) as run:
        accept(run, 0, 9)
        seal(run)
    with own(tmp_path, code=new, resume=False) as run:
        accept(run, 0, 4)
    put_back(tmp_path)
    with (
        pytest.raises(IdentityChanged, match="is finished, and its code was edited since: model"),
        own(tmp_path, code=new),
    ):
        pass
    with own(tmp_path, code=old) as run:
        assert run.ledger.coverage.sealed
    with own(tmp_path, code=new, accept_changes=True) as run:
        assert list(run.ledger.coverage.accepted) == [(0, 10)]


def test_a_run_that_is_put_back_knows_what_failed_in_it(tmp_path: Path) -> None:
    with own(tmp_path) as run:
        accept(run, 0, 4)
        run.ledger.append(*2 * [{"kind": "killed", "first": 5, "last": 5}])
        fail(run, 5, "WorkerKilled")
    with own(tmp_path, resume=False) as run:
        accept(run, 3, 7)
    put_back(tmp_path)
    with own(tmp_path, max_kills=2) as run:
        assert set(run.ledger.coverage.failed) == {5}
        assert list(run.ledger.coverage.accepted) == [(0, 5)]


def test_a_run_that_is_put_back_tells_changes_from_its_own_setup(tmp_path: Path) -> None:
    def refusal(beam: int) -> str:
        with pytest.raises(IdentityChanged) as error, own(tmp_path, identity={"beam": beam}):
            pass
        return str(error.value)

    with own(tmp_path, identity={"beam": 5}) as run:
        accept(run, 0, 9)
    with own(tmp_path, identity={"beam": 9}, resume=False):
        pass
    put_back(tmp_path)
    assert "beam: 5 -> 7" in refusal(7)
    with own(tmp_path, identity={"beam": 5}) as run:
        seal(run)
    assert "beam: 5 -> 9" in refusal(9)


def test_starting_over_with_other_items_removes_the_old_shards_in_the_end(tmp_path: Path) -> None:
    with own(tmp_path, range(5)) as run:
        accept(run, 0, 4)
    with own(tmp_path, range(5000), resume=False) as run:
        new = accept(run, 0, 4999)
        seal(run)
    assert shard_dirs(tmp_path) == {new.name}


# --- what dead owners left


def test_offers_are_taken_where_they_are_disjoint(tmp_path: Path) -> None:
    with own(tmp_path, range(20)) as run:
        known = accept(run, 0, 4)
        disjoint = make_offer(run, 5, 9, lease=1)
        make_offer(run, 4, 6, lease=2)
        make_offer(run, 8, 12, lease=3)
        behind = make_offer(run, 15, 19, lease=4)
        fail(run, 15, "ValueError")
    with own(tmp_path, range(20)) as run:
        assert list(run.ledger.coverage.shards.values()) == [known, disjoint]
        assert list(run.ledger.coverage.remaining(20)) == [(10, 20)]
    with own(tmp_path, range(20)) as run:  # 15 is to be done again: now the offer is welcome
        assert behind in run.ledger.coverage.shards.values()


@pytest.mark.parametrize("on_error", ["finish", "skip"])
def test_failed_items_are_retried_but_for_those_that_killed_too_many_workers(
    tmp_path: Path, on_error: str
) -> None:
    with own(tmp_path) as run:
        fail(run, 2, "ValueError")
        run.ledger.append(*2 * [{"kind": "killed", "first": 5, "last": 5}])
        fail(run, 5, "WorkerKilled")
    with own(tmp_path, on_error=on_error, max_kills=2) as run:
        assert set(run.ledger.coverage.failed) == {5}
    with own(tmp_path, on_error=on_error, max_kills=3) as run:
        assert set(run.ledger.coverage.failed) == set()


def test_a_shard_that_is_gone_is_noticed_before_the_merge_and_done_again(tmp_path: Path) -> None:
    with own(tmp_path) as run:
        kept, gone = accept(run, 0, 4), accept(run, 5, 9, lease=1)
        assert check_shards(run) == [tmp_path / kept.name, tmp_path / gone.name]
        shutil.rmtree(tmp_path / gone.name)
        with pytest.raises(RunStopped, match=rf"1 shard directories .* {gone.name}"):
            check_shards(run)
    with own(tmp_path) as run:
        assert list(run.ledger.coverage.remaining(10)) == [(5, 10)]
        again = accept(run, 5, 9)
        assert check_shards(run) == [tmp_path / kept.name, tmp_path / again.name]


def test_a_summary_needs_no_lock_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json"):
        read_summary(tmp_path)
    with own(tmp_path) as run:
        accept(run, 0, 4)
        fail(run, 7, "ValueError")
        before = {p.name for p in tmp_path.iterdir()}
        summary = read_summary(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == before
    assert (summary.positions, summary.accepted, summary.failed) == (10, 5, 1)
    assert summary.forward_seconds == 0.5
    assert not summary.finished
