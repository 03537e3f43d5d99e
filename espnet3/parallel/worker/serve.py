"""The one long task of a Dask worker: build the env, then pull leases until there are none."""

import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from espnet3.errors import ConfigError, RunStopped
from espnet3.parallel import modules_by_path
from espnet3.parallel.engine.marker import marker_path
from espnet3.parallel.engine.report import text_of
from espnet3.parallel.executors import messages
from espnet3.parallel.worker.device import device_here
from espnet3.parallel.worker.env import env_for
from espnet3.parallel.worker.job import Job
from espnet3.parallel.worker.lease_loop import LeaseWorker
from espnet3.parallel.worker.log import job_id, own_log

_busy: LeaseWorker | None = None
_told_to_end = False


def serve(token: str, blob: bytes) -> None:
    """Work for one run until the driver has no more leases, or is gone.

    Args:
        token: of the run, so that a late call reaches no other one.
        blob: (Job, env setup function), from `modules_by_path.dumps`.
    """
    from distributed import get_worker

    worker = get_worker()
    name = str(worker.name)

    def pull(message: messages.Message) -> messages.Work | None:
        return _pull(worker, token, message)

    began = time.monotonic()
    with ExitStack() as stack:
        try:
            job, setup = modules_by_path.loads(blob)
            log = stack.enter_context(own_log(job.run_dir, name))
            lease_worker = _prepare(job, setup, name, log)
        except BaseException as error:  # sys.exit() in a task would hang it
            is_config, is_stop = isinstance(error, ConfigError), isinstance(error, RunStopped)
            text = text_of(error)
            what = text if is_config or is_stop else f"{type(error).__name__}: {text}"
            failed = messages.EnvFailed(
                name, what, traceback.format_exc(), is_config, is_stop, device_here()
            )
            pull(failed)
            return
        # Of the event alone: a session's worker must not keep the env of a run that has ended.
        draining, operation = lease_worker.draining, messages.drain_operation(token)
        worker.handlers[operation] = lambda **_: draining.set()
        stack.callback(worker.handlers.pop, operation, None)
        stack.callback(lease_worker.close)  # whom the driver sends home at once, it does not know
        marker = str(marker_path(job.run_dir, lease_worker.name))
        hello = messages.Hello(
            name,
            marker,
            os.getpid(),
            log,
            os.uname().nodename,
            job_id(),
            round(time.monotonic() - began, 3),
            device_here(),
        )
        _work(lease_worker, pull, pull(hello))


def _work(
    lease_worker: LeaseWorker,
    pull: Callable[[messages.Message], messages.Work | None],
    work: messages.Work | None,
) -> None:
    """Do leases until there are none."""
    while work is not None:
        with _in_hand(lease_worker):
            try:
                report = lease_worker.run(work.lease, work.items, work.seconds)
            except BaseException as error:  # KeyboardInterrupt raised by user code
                report = lease_worker.broken_off(work.lease, error)
            if _told_to_end:
                pull(replace(report, leaving=True))
                os._exit(128 + signal.SIGTERM)
            if report.leaving:
                pull(report)
                os._exit(1)  # its nanny starts another one, which may find the GPU in order
        work = pull(report)


@contextmanager
def _in_hand(lease_worker: LeaseWorker) -> Iterator[None]:
    global _busy
    _busy = lease_worker
    try:
        yield
    finally:
        _busy = None


def end_soon(number: int, frame: FrameType | None) -> None:
    """Answer SIGTERM: after the unit in hand and its commit, or at once if there is none."""
    global _told_to_end
    _told_to_end = True
    if _busy is None:
        os._exit(128 + signal.SIGTERM)
    _busy.draining.set()


def _prepare(job: Job, setup: Callable[[], dict[str, Any]], name: str, log: str) -> LeaseWorker:
    env = env_for(job.token, job.provider, setup, job.model_key)
    return LeaseWorker(job, env, f"{name}.{os.getpid()}", log)


def _pull(worker: Any, token: str, message: messages.Message) -> messages.Work | None:
    """Report and wait for the next lease; None when there is none, or no driver any more."""
    from distributed.utils import sync

    call = getattr(worker.scheduler, messages.pull_operation(token))
    data = messages.dump_message(message)
    try:
        reply = sync(worker.loop, call, worker=worker.address, message=data)
    except Exception:  # the driver is gone or has ended the run: nobody is left to be told
        return None
    work: messages.Work | None = pickle.loads(reply)
    return work
