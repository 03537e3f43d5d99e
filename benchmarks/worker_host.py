"""A process that stands for many workers: ``python -m benchmarks.worker_host SCHEDULER``.

Each line of stdin is ``+ NAME`` or ``- NAME``: a Dask worker of that name comes, or goes. They
share one event loop, and each has a thread for its task, the real `serve`. What is not as in a
worker process of its own: the log of each holds its header alone, as file descriptors 1 and 2
cannot lead to all of them; nobody looks at the memory and the CPU of the process twice a second;
and there is no nanny, which would be a second connection to the driver.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Worker

from espnet3.parallel.worker import log, serve
from espnet3.parallel.worker.settings import WORKER_SETTINGS

AT_ONCE = 16  # workers that start side by side
SETTINGS: dict[str, Any] = {
    **WORKER_SETTINGS,
    "distributed.worker.preload": [],  # signals: for a process that is one worker
    "distributed.admin.system-monitor.interval": "60s",
    "distributed.comm.timeouts.connect": "120s",
}


@contextmanager
def header_alone(run_dir: Path, worker: str) -> Iterator[str]:
    """Stands for `log.own_log`, which turns the outputs of the whole process over."""
    name = log.log_name(worker)
    with open(run_dir / name, "ab") as file:
        file.write(log._header(worker))
    yield name


async def host(scheduler: str) -> None:
    """Start and end workers as stdin says, until it ends."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    gate = asyncio.Semaphore(AT_ONCE)
    workers: dict[str, asyncio.Task[Worker]] = {}
    leaving: set[asyncio.Task[None]] = set()
    while line := (await lines.readline()).decode():
        what, name = line.split()
        if what == "+":
            workers[name] = asyncio.create_task(_start(scheduler, name, gate))
        else:
            leaving.add(asyncio.create_task(_end(workers.pop(name))))
    os._exit(0)  # threads may wait for a driver that is gone


async def _start(scheduler: str, name: str, gate: asyncio.Semaphore) -> Worker:
    async with gate:
        return await Worker(scheduler, name=name, nthreads=1, memory_limit=0)


async def _end(starting: "asyncio.Task[Worker]") -> None:
    worker = await starting
    await worker.close(timeout=5.0, nanny=False)  # type: ignore[no-untyped-call]


def main(scheduler: str) -> None:
    """Run until stdin ends."""
    serve.own_log = header_alone
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(SETTINGS):
        asyncio.run(host(scheduler))


if __name__ == "__main__":
    main(*sys.argv[1:])
