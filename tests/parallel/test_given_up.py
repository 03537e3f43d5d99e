"""Workers whose process lives but that are of no use to the run any more."""

import os
import signal
import threading
import time

import pytest
from workloads import Lines, Provider, Squares, forwards, lines_of, note, notes

from espnet3.errors import RunStopped
from espnet3.parallel.parallel import parallel_session, set_parallel


def wait_for(log, name):
    while not notes(log, name):
        time.sleep(0.01)


class Unreadable(int):
    """An item that no worker can read."""

    def __reduce__(self):
        return int, ("no number",)


def test_lease_that_nobody_can_read_ends_the_run_with_the_cause(log, out, two_workers):
    """It comes to one worker, and while the other waits, back and to that one."""
    runner = Squares(Provider(log), output_dir=out)
    with pytest.raises(RunStopped, match=r"worker \d: its task ended: ValueError: invalid literal"):
        runner([Unreadable(0)])


def cut_connection(log):
    """Break this worker's connections while it waits for its next lease."""
    from distributed import get_worker

    worker = get_worker()

    def break_off():
        for comms in list(worker.rpc.occupied.values()):
            for comm in list(comms):
                comm.abort()

    def cut():
        while worker.state.executing:
            worker.loop.add_callback(break_off)
            time.sleep(0.02)
        note(log, "cut", worker.name)

    threading.Thread(target=cut, daemon=True).start()


def test_worker_that_lost_its_connection_is_given_no_lease(log, out, two_workers, caplog):
    class CutOff(Lines):
        @staticmethod
        def forward(idx, log, **env):
            if idx == 0:
                wait_for(log, "other")  # else both items might come to this worker
                cut_connection(log)
            elif not notes(log, "died"):
                note(log, "other", idx)
                wait_for(log, "cut")
                note(log, "died", idx)
                os.kill(os.getpid(), signal.SIGKILL)
            return Lines.forward(idx, log=log, **env)

    assert CutOff(Provider(log), output_dir=out)(range(2)) == lines_of(range(2))
    (name,) = notes(log, "cut")
    told = f"worker {name}: it lost its connection to this driver; the others go on without it"
    assert told in caplog.text


class FailsOnce(Provider):
    """One worker cannot build its env; the other one is slower."""

    def build_worker_setup_fn(self):
        setup, log = super().build_worker_setup_fn(), self.config["log"]

        def set_up():
            try:
                os.close(os.open(f"{log}/first", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                wait_until_others_are_idle()
                return setup()
            raise ValueError("no GPU here")

        return set_up


def wait_until_others_are_idle():
    from distributed import get_worker
    from distributed.utils import sync

    worker = get_worker()
    while len([t for t in sync(worker.loop, worker.scheduler.processing).values() if t]) > 1:
        time.sleep(0.01)


def test_env_that_one_worker_cannot_build_is_told(log, out, caplog):
    set_parallel({"n_workers": 2})
    assert Lines(FailsOnce(log), output_dir=out)(range(8)) == lines_of(range(8))
    assert "FailsOnce could not build its env in worker " in caplog.text
    assert ": ValueError: no GPU here; the others go on without it" in caplog.text


def test_run_ends_when_only_useless_workers_are_left(log, out):
    class Leaves(Lines):
        @staticmethod
        def forward(idx, log, **env):
            if idx == 5:
                from distributed import get_worker

                worker = get_worker()
                worker.loop.add_callback(worker.close, nanny=True)  # none comes in its place
                wait_for(log, "for ever")
            return Lines.forward(idx, log=log, **env)

    block = {"n_workers": 2, "worker_start_timeout": 1}
    runner = Leaves(FailsOnce(log), output_dir=out)
    with parallel_session(block), pytest.raises(RunStopped, match="no worker came within 1 s"):
        runner(range(8))
    assert forwards(log)[:5] == list(range(5))
