"""All checks, in the order in which one would make them by hand."""

from __future__ import annotations

from collections.abc import Iterator

from espnet3.doctor import commands, installation, limits, machine, place, worker
from espnet3.doctor.finding import Finding, warning
from espnet3.doctor.words import Asked


def examine(asked: Asked, with_worker: bool = False) -> Iterator[Finding]:
    """Make the checks one by one, as they are asked for.

    Args:
        asked: which backend, and where runs are to lie.
        with_worker: Whether to start one worker of the backend; that may take as long as its queue.
    """
    parallel = asked.parallel
    yield from installation.look(frozenset({"kube"} if parallel.env == "kube" else ()))
    yield from commands.look(parallel)
    if not parallel.secure:
        how = (
            "leave parallel.security away: whoever reaches the ports of workers can run code as you"
        )
        yield warning("connections", "parallel.security is false", how)
    here = machine.Machine.here()
    yield from limits.look(parallel)
    yield machine.cores(here, parallel)
    yield machine.gpus(here, parallel)
    yield from machine.scratch(here)
    try:
        with place.scratch_in(asked.run_dir) as scratch:
            yield from place.look(scratch)
            if with_worker:
                yield from worker.look(parallel, scratch)
    except OSError as error:
        yield place.cannot_be_made(asked.run_dir, error)
