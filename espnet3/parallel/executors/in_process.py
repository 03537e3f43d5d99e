"""`env: local, n_workers: 1`: leases run in the driver, without Dask and without isolation."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from espnet3.errors import ConfigError, EnvBuildError
from espnet3.parallel.engine.marker import DRIVER
from espnet3.parallel.engine.report import LeaseReport, text_of
from espnet3.parallel.engine.run import Run
from espnet3.parallel.env_provider import build_local
from espnet3.parallel.parallel import in_session
from espnet3.parallel.signals import Interruption
from espnet3.parallel.wording import printable
from espnet3.parallel.worker.env import drop_env
from espnet3.parallel.worker.job import Job
from espnet3.parallel.worker.lease_loop import LeaseWorker

logger = logging.getLogger(__name__)


def run_in_process(
    run: Run, job: Job, items: Sequence[Any], provider: Any, interruption: Interruption
) -> None:
    """Do all leases of a run here, one after the other; a signal ends it after the unit in hand.

    Raises:
        EnvBuildError: from the provider's own exception.
    """
    run.events.tell("worker_up", worker=DRIVER, host=os.uname().nodename, pid=os.getpid())
    began = time.monotonic()
    try:
        drop_env(but_model=job.model_key)
        env = build_local(provider)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvBuildError(
            f"{job.provider} could not build its env in this process: "
            f"{type(error).__name__}: {text_of(error)}"
        ) from error
    seconds = round(time.monotonic() - began, 3)
    run.events.tell("env_built", worker=DRIVER, seconds=seconds)
    worker: LeaseWorker | None = None
    try:
        worker = LeaseWorker(job, env, DRIVER)
        interruption.drain = worker.draining.set
        while not run.over:
            lease = run.deal(DRIVER)
            if lease is None:  # nothing is out with anybody, so nothing can come back
                break
            run.events.flush()
            run.tally.in_hand = partial(worker.n_done_of, lease)
            report = worker.run(lease, items[lease.first : lease.stop], run.seconds_of(lease))
            run.tally.in_hand = None
            if report.leaving:
                report = _stopped_by_gpu(run, worker, report)
            run.report(report)
            run.flush()
            if interruption.signal is not None:
                run.stop(interruption.reason)
    finally:
        interruption.drain = None
        if worker is not None and not worker.cuda_error:
            worker.close()
        if not in_session():
            drop_env()


def _stopped_by_gpu(run: Run, worker: LeaseWorker, report: LeaseReport) -> LeaseReport:
    """Stop the run, as a CUDA error leaves this process without its GPU.

    The marker stays: the next start does the unit in hand alone, as after a death in it.
    """
    where, failure = "", report.poisoned
    if failure is not None:
        where = f" in {printable(failure.utterance)}"
        worker.leave_marked(failure.first)
        logger.error("%s", failure.traceback.rstrip())
        report = replace(report, poisoned=None, suspect=(failure.first, failure.stop))
    run.stop(
        f"this process cannot use its GPU any more after a CUDA error{where} ({report.cuda_error}),"
        " and all other items would fail in it; a worker of its own (`parallel: {env: local_gpu}`) "
        "would be started again instead"
    )
    return report
