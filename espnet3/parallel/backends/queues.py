"""What a scheduler says about its queues, and about the nodes behind them."""

import re

from espnet3.parallel.backends import asking

NO_LIMIT = "no limit"
"""A queue's longest walltime where it has none."""


def slurm_queues() -> list[str] | None:
    """The names of all partitions; None if nobody could say."""
    out = asking.answer(["sinfo", "-h", "-o", "%R"])
    return None if out is None else out.split()


def sge_queues() -> list[str] | None:
    """The names of all cluster queues; None if nobody could say."""
    out = asking.answer(["qconf", "-sql"])
    return None if out is None else out.split()


def slurm_limit(queue: str | None) -> str | None:
    """The longest walltime of a partition, of the default one if none is named."""
    out = asking.answer(["sinfo", "-h", "-o", "%P|%l", *(["-p", queue] if queue else [])])
    for line in (out or "").splitlines():  # several if several were named
        name, _, limit = line.partition("|")
        if queue or name.endswith("*"):
            return NO_LIMIT if limit == "infinite" else limit
    return None


def sge_limit(queue: str | None) -> str | None:
    """The longest walltime of a cluster queue; a job without a queue may land in any of them."""
    if queue is None:
        return None
    out = asking.answer(["qconf", "-sq", queue])
    match = re.search(r"^h_rt\s+(\S+)", out or "", re.MULTILINE)
    if match is None:
        return None
    return NO_LIMIT if match[1].upper() == "INFINITY" else match[1]
