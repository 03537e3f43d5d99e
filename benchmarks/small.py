"""Eight trivial items: what a call costs when there is nothing to do."""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import peers
from benchmarks.measure import OURS, Options, Sample, Table, child, in_turn

N = 8


def run(options: Options) -> list[Table]:
    """Whole processes, with one worker and with two."""
    return [
        _table(options, 1, [peers.LOOP]),
        _table(options, 2, [peers.DASK, peers.POOL, peers.EXECUTOR, peers.JOBLIB, peers.STATIC]),
    ]


def _table(options: Options, workers: int, others: list[str]) -> Table:
    variants: dict[str, Callable[[], Sample]] = {OURS: partial(_ours, options, workers)}
    if workers > 1:
        variants[f"{OURS}, security: false"] = partial(_ours, options, workers, security=False)
    for how in peers.available(*others):
        variants[how] = partial(_theirs, options, workers, how)
    table = Table(f"{N} trivial items, {workers} worker{'s' * (workers > 1)}, whole process")
    table.rows = in_turn(variants, options.repeats, warm_up=True)
    return table


def _ours(options: Options, workers: int, **how: Any) -> Sample:
    kwargs = {"out": options.place(), "workers": workers, **how}
    return _sample("benchmarks.runners:run", kwargs)


def _theirs(options: Options, workers: int, how: str) -> Sample:
    kwargs = {"out": options.place() / "lines", "workers": workers, "how": how}
    return _sample("benchmarks.peers:run", kwargs)


def _sample(function: str, kwargs: dict[str, Any]) -> Sample:
    process = child(function, {"task": "text", "n": N, **kwargs})
    return {"seconds": process.seconds, "peak MiB (driver)": process.peak_mib}
