"""Whether any node is large enough for a job, before it is submitted.

Only where the scheduler itself would refuse it: others take such jobs, and a node may be bought.
"""

import re

from espnet3.parallel.backends import asking

_NEVER = re.compile(
    "Requested node configuration is not available|Memory specification can not be satisfied"
    "|CPU count per node can not be satisfied"
)
_LATER = re.compile(r"^#SBATCH +(-H|--hold|-b|--begin|-d|--dependency)\b", re.MULTILINE)


def slurm_misfit(script: str) -> str | None:
    """Why no node of a job script's partition can ever run it; None if one may.

    The sizes of the nodes alone do not decide it: a site may route jobs elsewhere by their size. So
    Slurm is asked about the script then.
    """
    cpus, memory = _directive(script, "cpus-per-task"), _mebibytes(_directive(script, "mem"))
    if not cpus.isdecimal() or memory is None or _LATER.search(script):
        return None
    queue = _directive(script, "partition") or _directive(script, "p")
    nodes = _slurm_nodes(queue)
    if not nodes or any(node[0] >= int(cpus) and node[1] >= memory for node in nodes):
        return None
    words = asking.refusal(["sbatch", "--test-only"], script)
    if not _NEVER.search(words):
        return None
    where = f"the queue {queue!r}" if queue else "the default queue"
    most, largest = max(nodes), max(nodes, key=lambda node: node[1])
    sizes = dict.fromkeys(_amount(*node) for node in (most, largest))
    return (
        f"no node of {where} has {_amount(int(cpus), memory)} of memory; the largest has "
        f"{', another '.join(sizes)} ({words})"
    )


def _amount(cpus: int, mebibytes: float) -> str:
    return f"{cpus} core{'s' if cpus > 1 else ''} and {mebibytes:.0f} MiB"


def _directive(script: str, name: str) -> str:
    """The value of a directive, the last one counts; "" without one."""
    dashes = "-" if len(name) == 1 else "--"
    found = re.findall(rf"^#SBATCH +{dashes}{name}[= ]*(\S+)", script, re.MULTILINE)
    return found[-1] if found else ""


def _mebibytes(text: str) -> float | None:
    match = re.fullmatch(r"(\d+)([KMGT]?)", text, re.IGNORECASE)
    if match is None:
        return None
    return float(match[1]) * float(1024 ** (" KMGT".index(match[2].upper() or "M") - 2))


def _slurm_nodes(queue: str) -> list[tuple[int, float]]:
    """Cores and MiB of each kind of node in some partitions, in the default one if none is named.

    Empty if any of it is not known.
    """
    out = asking.answer(["sinfo", "-h", "-e", "-o", "%P|%c|%m", *(["-p", queue] if queue else [])])
    nodes = []
    for line in (out or "").splitlines():
        match = re.fullmatch(r"([^|]*)\|([1-9]\d*)\|(\d+)", line)
        if match is None:
            return []
        if queue or match[1].endswith("*"):
            nodes.append((int(match[2]), float(match[3])))
    return nodes
