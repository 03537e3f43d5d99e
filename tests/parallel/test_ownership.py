"""A driver that loses its run, and a run directory that cannot be written to."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import traceback
from pathlib import Path

import pytest
from drivers import DEADLINE, await_that, is_running
from workloads import Lines, Provider, forget, forwards, lines_of, notes, pids, tell

from espnet3.errors import RunInUse, RunStopped
from espnet3.parallel.engine import heartbeat
from espnet3.parallel.engine.directory import read_summary
from espnet3.parallel.parallel import parallel_session, set_parallel

OVERWRITE = {"allow_overwrite_lock": True}


def state(out):
    """What is published, and the ledgers that counted."""
    names = ["text", "ids", "manifest.json", "failures.jsonl"]
    return {
        name: ((out / name).read_bytes(), (out / name).stat().st_ino)
        for name in names
        if (out / name).exists()
    }


def suspend(driver):
    driver.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, driver.pid, os.WSTOPPED)


def let_go(log):
    for held in log.glob("item.*.held"):
        held.unlink()


def await_end(driver, log):
    assert driver.wait(DEADLINE) == 1
    assert "OwnershipLost" in (log / "driver.txt").read_text()


def check_next_run(log, out):
    """The next run finds nothing to do, and nothing is left of the one that lost."""
    forget(log)
    set_parallel({"n_workers": 1})
    assert Lines(Provider(log), output_dir=out)(range(60)) == lines_of(range(60))
    assert forwards(log) == []
    ours = {"text", "ids", "lock", "logs", "manifest.json", "config.yaml", "failures.jsonl"}
    ours |= {"events.jsonl"}
    shards = {path.parent.name for path in out.glob("split.*/done")}
    left = {path.name for path in out.iterdir()} - ours - shards
    assert all(name.startswith("ledger.") for name in left)
    assert not list((out / "logs").glob("inflight.*"))


# a suspended driver


@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("wakes", ["before its items end", "after its items end"])
def test_suspended_driver_that_was_taken_over_stops_without_harm(
    log, out, start_driver, n_workers, wakes
):
    held = [40, 57][:n_workers]
    for item in held:
        tell(log, item, "hold once")
    driver = start_driver(60, n_workers=n_workers, lease_seconds=1e-6)
    await_that(lambda: len(notes(log, "held")) == n_workers, driver)
    suspend(driver)
    with pytest.raises(RunInUse, match=f"suspended: `kill -CONT {driver.pid}`"):
        Lines(Provider(log), output_dir=out)(range(60))
    with parallel_session(run=OVERWRITE):
        assert Lines(Provider(log), output_dir=out)(range(60)) == lines_of(range(60))
    assert max(forwards(log).count(item) for item in range(60)) == 2
    before = state(out)

    if wakes == "before its items end":
        driver.send_signal(signal.SIGCONT)
        let_go(log)
    else:
        let_go(log)
        driver.send_signal(signal.SIGCONT)
    await_end(driver, log)
    await_that(lambda: not any(map(is_running, pids(log) - {os.getpid(), driver.pid})))
    assert state(out) == before
    assert read_summary(out).finished
    check_next_run(log, out)


def test_suspended_driver_wakes_while_its_successor_is_at_work(log, out, start_driver):
    """Both work at the same time; in the end there is the successor's result, once."""
    tell(log, 20, "hold once")
    first = start_driver(60, lease_seconds=1e-6)
    await_that(lambda: notes(log, "held") == ["20"], first)
    suspend(first)
    tell(log, 50, "hold")
    second = start_driver(60, n_workers=2, lease_seconds=1e-6, **OVERWRITE)
    await_that(lambda: "50" in notes(log, "held"), second)
    first.send_signal(signal.SIGCONT)
    let_go(log)
    await_end(first, log)
    assert not (out / "text").exists()
    tell(log, 50, None)
    assert second.wait(DEADLINE) == 0
    assert (out / "text").read_bytes() + (out / "ids").read_bytes() == lines_of(range(60))
    check_next_run(log, out)


def test_driver_that_wakes_while_others_have_its_in_process_place_takes_no_marker(
    log, out, start_driver
):
    """Both work in process; the newer one's marker tells, after a crash, what it was at."""
    tell(log, 5, "hold once")
    first = start_driver(12, lease_seconds=1e-6)
    await_that(lambda: notes(log, "held") == ["5"], first)
    suspend(first)
    tell(log, 8, "hold")
    second = start_driver(12, **OVERWRITE)
    await_that(lambda: "8" in notes(log, "held"), second)
    first.send_signal(signal.SIGCONT)
    let_go(log)
    await_end(first, log)
    assert (out / "logs" / "inflight.driver").exists()


STEPS_OF_A_START = {
    "sets the old manifest aside": "urandom 1",  # for the new one's run_id
    "names its config": "fsync 1",
    "names its manifest": "fsync 3",
    "flushes the name": "fsync 4",
    "names its ledger": "fsync 5",
}


@pytest.mark.parametrize("step", STEPS_OF_A_START)
@pytest.mark.parametrize("begins", ["where no run was", "with resume: false"])
def test_driver_that_is_suspended_while_it_starts_undoes_nothing_of_its_successor(
    log, out, start_driver, begins, step
):
    """It has the lock and no epoch yet, and is stopped just before the step."""
    resume = {}
    if begins == "with resume: false":
        Lines(Provider(log), output_dir=out)(range(12))
        resume = {"resume": False}
    older = list(out.glob("ledger.*"))
    (log / "suspend_before").write_text(STEPS_OF_A_START[step])
    first = start_driver(12, **resume)
    os.waitid(os.P_PID, first.pid, os.WSTOPPED)
    assert list(out.glob("ledger.*")) == older
    with parallel_session(run=OVERWRITE):
        assert Lines(Provider(log), output_dir=out, resume=False)(range(20)) == lines_of(range(20))
    before = state(out)
    assert before["manifest.json"]

    first.send_signal(signal.SIGCONT)
    await_end(first, log)
    assert state(out) == before
    assert read_summary(out).finished
    forget(log)
    assert Lines(Provider(log), output_dir=out)(range(20)) == lines_of(range(20))
    assert forwards(log) == []


# file systems


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own, and a way to change how it is mounted."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*arguments):
        command = ["mount", *arguments, "none", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount: {done.stderr.strip()}")

    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    mount("-t", "tmpfs", "-o", "size=256k")
    yield place, lambda options: mount("-o", f"remount,{options}")
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place):
    """Take all the room that there is."""
    path = place / "ballast"
    with path.open("ab", buffering=0) as f:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    f.write(bytes(size))
    return path


def stopped(call):
    with pytest.raises(RunStopped) as caught:
        call()
    assert isinstance(caught.value.__cause__, OSError)
    return str(caught.value)


def test_read_only_disk(log, disk):
    place, remount = disk
    runner = Lines(Provider(log), output_dir=place / "out")
    assert runner(range(10)) == lines_of(range(10))
    remount("ro")
    assert "Read-only file system. The disk is mounted read-only" in stopped(lambda: runner([1]))
    fresh = Lines(Provider(log), output_dir=place / "new")
    text = stopped(lambda: fresh(range(10)))
    assert text.startswith(f"{place / 'new'}: Read-only file system.")
    assert "run the same command again" in text
    remount("rw")
    assert runner(range(10)) == lines_of(range(10))
    assert fresh(range(10)) == lines_of(range(10))


def test_disk_that_becomes_full_stops_the_run_and_it_goes_on(log, disk, n_workers):
    place, _ = disk

    class Filling(Lines):
        @staticmethod
        def close_writers(writers, state, log):
            if "utt5" in state["records"] and not (Path(log) / "filled").exists():
                (Path(log) / "filled").touch()
                fill(place)
            return Lines.close_writers(writers, state)

    set_parallel({"n_workers": n_workers, "lease_seconds": 1e-6})
    runner = Filling(Provider(log), output_dir=place / "out")
    text = stopped(lambda: runner(range(10)))
    assert f"{place / 'out'}/" in text
    assert ": No space left on device. The disk is full: make room" in text
    (place / "ballast").unlink()
    kept = read_summary(place / "out").accepted
    assert kept >= 5 - n_workers
    forget(log)
    assert runner(range(10)) == lines_of(range(10))
    # A shard that the ledger had no room for is taken over, as it was whole on disk.
    assert set(forwards(log)) <= set(range(10))
    assert 5 in forwards(log)
    assert len(forwards(log)) <= 10 - kept


def test_disk_that_is_full_from_the_start(log, disk):
    place, _ = disk
    ballast = fill(place)
    runner = Lines(Provider(log), output_dir=place / "out")
    text = stopped(lambda: runner(range(10)))
    assert "No space left on device. The disk is full: make room" in text
    ballast.unlink()
    assert runner(range(10)) == lines_of(range(10))


def test_full_disk_does_not_stop_the_heartbeat(log, disk, monkeypatch):
    place, _ = disk
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)

    def beat():
        return json.loads((place / "out" / "lock").read_text())["beat"]

    class Watching(Lines):
        def merge(self, shard_dirs):
            ballast, before = fill(place), beat()
            await_that(lambda: beat() > before + 2)
            ballast.unlink()
            return super().merge(shard_dirs)

    runner = Watching(Provider(log), output_dir=place / "out")
    assert runner(range(3)) == lines_of(range(3))


def test_file_where_the_directory_is_to_be(log, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "out"):
        text = stopped(lambda place=place: Lines(Provider(log), output_dir=place)(range(3)))
        assert "There is a file where a directory is to be" in text
        assert str(place) in text


def test_directory_of_another_user(log, out):
    out.mkdir(mode=0o500)
    if os.access(out, os.W_OK):
        pytest.skip("root may write everywhere")
    text = stopped(lambda: Lines(Provider(log), output_dir=out)(range(3)))
    assert "This user may not write there" in text


def test_merge_that_fails_is_told_apart_and_merges_again(log, out, n_workers):
    class Failing(Lines):
        def merge(self, shard_dirs):
            if not (log / "merge").exists():
                raise KeyError("no such speaker")
            return super().merge(shard_dirs)

    runner = Failing(Provider(log), output_dir=out)
    with pytest.raises(KeyError, match="no such speaker") as caught:
        runner(range(10))
    text = "".join(traceback.format_exception(caught.value))
    assert f"Raised by Failing.merge, when the items were done. They are kept in {out}" in text
    (log / "merge").touch()
    forget(log)
    assert runner(range(10)) == lines_of(range(10))
    assert forwards(log) == []
