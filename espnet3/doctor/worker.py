"""One real worker of the configured backend, and how it compares with the driver."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet3.doctor import machine, shared
from espnet3.doctor.finding import Finding, ok, problem, warning
from espnet3.doctor.machine import Machine
from espnet3.errors import ConfigError, RunStopped
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.config_check import LOCAL
from espnet3.parallel.parallel import shared_cluster

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

ANSWER_LIMIT = 60.0
"""Seconds that a worker may take to answer, beside what it waits for."""

LOCAL_LIMIT = 300.0
"""Seconds that a worker on this machine may take to start."""

SAY_EVERY = 30.0

CLOCKS_APART = 5.0
"""Seconds by which times in logs and reports may be wrong without a word."""

FEW_FILES = 256
"""Open files that a worker and its nanny need, and what `forward` opens."""

ESSENTIAL = ("espnet3", "dask", "distributed", "cloudpickle", "msgpack")
"""Packages that speak with their like on the other side."""


def look(parallel: ParallelConfig, place: Path) -> Iterator[Finding]:
    """Start a worker, ask it, and let it go.

    Args:
        parallel: where it runs.
        place: a directory that driver and workers are to share; logs of jobs go there.
    """
    from distributed import Client

    one = replace(parallel, n_workers=1, adaptive=None)
    release = shared.prepare(place)
    began = time.monotonic()
    try:
        with shared_cluster(one, place / "logs") as cluster, Client(cluster) as client:
            _await_worker(client, cluster, parallel)
            seconds = time.monotonic() - began
            security = "TLS" if parallel.secure else "plain TCP"
            yield ok("worker start", f"a worker came after {seconds:.1f} s")
            yield ok("connection", f"it reached {client.scheduler.address} by {security}")
            yield from _compare(client, parallel, place)
    except (ConfigError, RunStopped) as error:
        how = (
            f"see `espnet3 plan` for how it is started; {place.parent} must be on a disk that nodes"
            " see under this path, and they must reach this host"
        )
        if parallel.env in LOCAL:
            how = "see what it says"
        yield problem("worker start", str(error), how)
    except Exception as error:  # whatever a foreign installation may raise
        how = "install there what the driver has, in the same versions"
        yield problem("worker", f"it does not answer: {type(error).__name__}: {error}", how)
    finally:
        release()


def _await_worker(client: Client, cluster: Any, parallel: ParallelConfig) -> None:
    """Wait until it is there.

    Raises:
        RunStopped: if none will come, or none has within `worker_start_timeout`.
    """
    limit = parallel.worker_start_timeout or (LOCAL_LIMIT if parallel.env in LOCAL else math.inf)
    watch = getattr(cluster, "watch", None)
    began = told = time.monotonic()
    while True:
        try:
            client.wait_for_workers(1, timeout=1.0)
        except TimeoutError:
            pass
        else:
            return
        now = time.monotonic()
        why = watch.waited_for() if watch is not None else ""
        if watch is not None and watch.fatal:
            raise RunStopped(watch.fatal)
        if now - began > limit:
            raise RunStopped(f"no worker came within {limit:.0f} s{': ' if why else ''}{why}")
        if now - told > SAY_EVERY:
            told = now
            logger.info("waiting for a worker: %s", why or "none is there")


def _compare(client: Client, parallel: ParallelConfig, place: Path) -> Iterator[Finding]:
    def ask(function: Any, *arguments: Any) -> Any:
        limit = ANSWER_LIMIT + shared.PATIENCE
        return client.submit(function, *arguments, pure=False).result(timeout=limit)

    here, there = Machine.here(), ask(Machine.here)
    yield from versions(here, there)
    seen = ask(shared.visit, str(place))
    yield shared.compare(
        place, seen, lambda name, content: ask(shared.await_content, str(place), name, content)
    )
    yield clocks(*min((_clock(ask) for _ in range(5)), key=lambda both: both[1]), there.host)
    yield gpus(there, parallel)
    yield open_files(there)
    if there.host != here.host:
        yield shared.locks(seen)
        yield from machine.scratch(there, "on the worker: ")


def versions(here: Machine, there: Machine) -> Iterator[Finding]:
    """Check that the two have the same Python and packages."""
    mine, its = here.python[0], there.python[0]
    seen = f"{its} at {there.python[1]} on {there.host}, {mine} here"
    if mine.rpartition(".")[0] != its.rpartition(".")[0]:
        how = "use the same Python on both sides (parallel.options.python, or the image)"
        yield problem("Python of the worker", seen, how)
    else:
        yield ok("Python of the worker", seen)
    names = [name for name in here.versions if here.versions[name] != there.versions.get(name)]
    check = "packages of the worker"
    if not names:
        yield ok(check, "the same versions as here")
        return
    seen = "; ".join(
        f"{name} {there.versions.get(name) or 'missing'}, {here.versions[name] or 'missing'} here"
        for name in names
    )
    how = "install there what the driver has, in the same versions"
    harmful = any(name in ESSENTIAL for name in names)
    yield problem(check, seen, how) if harmful else warning(check, seen, how)


def clocks(apart: float, error: float, host: str) -> Finding:
    """Check that clocks agree.

    Args:
        apart: seconds that the worker's is ahead.
        error: seconds that this may be wrong by.
        host: the worker's.
    """
    word = "ahead" if apart > 0 else "behind"
    seen = f"that of {host} is {abs(apart):.2f} s {word} (known to {error:.2f} s)"
    if abs(apart) - error <= CLOCKS_APART:
        return ok("clocks", seen)
    how = (
        "let a time service (chrony, systemd-timesyncd) set both; times in logs and reports differ"
    )
    return warning("clocks", seen, how)


def _clock(ask: Any) -> tuple[float, float]:
    """How far the worker's clock is ahead, and by how much that may be wrong, in seconds."""
    before = time.time()
    its = ask(time.time)
    after = time.time()
    return its - (before + after) / 2, (after - before) / 2


def gpus(there: Machine, parallel: ParallelConfig) -> Finding:
    """Check that a worker that asks for a GPU has one, and one of its own."""
    n = len(there.gpus)
    seen = f"{n} visible on {there.host} ({there.gpus_from})"
    asked = parallel.env == "local_gpu" or _asks_for_gpu(parallel.options)
    if asked and not n:
        how = "see the directives of the job (`espnet3 plan`), and what `nvidia-smi` says there"
        return problem("GPUs of the worker", seen, how)
    if asked or not n:
        return ok("GPUs of the worker", seen)
    how = (
        "nothing in parallel.options asks for one, so that several workers may share it: use env: "
        "local_gpu, or ask for one (Slurm: `job_extra_directives: [--gres=gpu:1]`), if models are "
        "to run on it"
    )
    return warning("GPUs of the worker", seen, how)


def _asks_for_gpu(options: Any) -> bool:
    return "gpu" in str(dict(options)).lower()


def open_files(there: Machine) -> Finding:
    """Check that the worker may open files."""
    soft, hard = there.open_files
    seen = f"limit {soft} (`ulimit -n`), at most {hard}, on {there.host}"
    if 0 <= soft < FEW_FILES:
        how = f"put `ulimit -n {FEW_FILES if 0 <= hard < 4096 else 4096}` into job_script_prologue"
        return warning("open files of the worker", seen, how)
    return ok("open files of the worker", seen)
