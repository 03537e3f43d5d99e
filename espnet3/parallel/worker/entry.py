"""The program of a cluster job: one nanny with one worker, until it is told to leave.

Dask's own worker command drops the scheduler at SIGTERM. This one lets the worker finish its unit,
commit and report first, and it leaves by itself shortly before its walltime.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from espnet3.parallel.credentials import Credentials

LEAVE_AT = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""What schedulers send when a job is cancelled, preempted, or near a limit."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker; the exit status is 0 if it worked and left in good order."""
    import dask

    from espnet3.parallel.worker.settings import WORKER_SETTINGS

    arguments = vars(_parser().parse_args(argv))
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The nanny hands its settings on to the worker.
    dask.config.set(WORKER_SETTINGS)
    try:
        asyncio.run(_work(credentials=_credentials(arguments), **arguments))
    except (TimeoutError, OSError, EOFError) as error:
        logging.getLogger(__name__).error(
            "no worker could be started that reaches the driver at %s: %s",
            arguments["scheduler"],
            error or "it did not answer in time",
        )
        return 1
    return 0


async def _work(
    scheduler: str,
    drain_after: float | None,
    leave_at_eof: bool,
    credentials: Credentials | None,
    **options: Any,
) -> None:
    from espnet3.parallel.worker.nanny import LeaseNanny

    loop = asyncio.get_running_loop()
    nanny = LeaseNanny(
        scheduler,
        security=None if credentials is None else credentials.security(),
        # Until the worker stops it.
        dashboard_address="127.0.0.1:0",
        dashboard=False,
        **options,
    )
    for number in LEAVE_AT:
        loop.add_signal_handler(number, nanny.leave, f"signal {number.name}")
    if drain_after is not None:
        loop.call_later(drain_after, nanny.leave, "its walltime is near")
    if leave_at_eof:
        loop.add_reader(0, _read_until_eof, loop, nanny)
    try:
        await nanny
    except BaseException:
        if not nanny.leaving:
            raise
    with suppress(asyncio.CancelledError):
        await nanny.finished()  # type: ignore[no-untyped-call]


def _credentials(arguments: dict[str, Any]) -> Credentials | None:
    """Those that the driver gave, taken out of `arguments`; None if it wants no TLS."""
    certificate, key, ca_file, from_stdin = (
        arguments.pop(f"tls_{name}") for name in ("cert", "key", "ca_file", "from_stdin")
    )
    if from_stdin:
        return Credentials.read_line(sys.stdin.buffer)
    # dask-jobqueue passes all three; the certificate is its own authority.
    return Credentials(certificate, key) if ca_file else None


def _read_until_eof(loop: asyncio.AbstractEventLoop, nanny: Any) -> None:
    if not os.read(0, 4096):
        loop.remove_reader(0)
        nanny.leave("whoever started it has hung up")


def _parser() -> argparse.ArgumentParser:
    """The options that dask-jobqueue passes, and those that may stand in `worker_extra_args`."""
    parser = argparse.ArgumentParser("espnet3.parallel.worker.entry", allow_abbrev=False)
    parser.add_argument("scheduler", help="address of the driver's Dask scheduler")
    parser.add_argument("--name", help="name of the worker")
    parser.add_argument("--nthreads", type=int, default=1)
    parser.add_argument("--memory-limit", default="0", help="per worker, as in 4GB; 0 for none")
    parser.add_argument("--death-timeout", help="seconds without a driver that end the worker")
    parser.add_argument("--local-directory", help="scratch, on the node")
    parser.add_argument("--interface", help="network interface to listen on")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--protocol", help="tcp or tls")
    parser.add_argument("--worker-port", help="port, or first:last")
    parser.add_argument("--nanny-port", dest="port", help="port, or first:last")
    for name in ("ca-file", "cert", "key"):
        parser.add_argument(f"--tls-{name}", help="path of a PEM file")
    parser.add_argument("--tls-from-stdin", action="store_true", help="read key and certificate")
    parser.add_argument("--drain-after", type=float, help="seconds after which it leaves by itself")
    parser.add_argument("--leave-at-eof", action="store_true", help="leave when stdin ends")
    return parser


if __name__ == "__main__":
    sys.exit(main())
