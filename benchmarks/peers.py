"""What one would use instead of espnet3. All write one line per item to one file, in order.

Each imports what it needs itself, so that none pays for another.
"""

import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import tasks
from benchmarks.measure import OURS, Sample

LOOP = "plain loop"
POOL = "multiprocessing.Pool"
EXECUTOR = "ProcessPoolExecutor"
JOBLIB = "joblib"
DASK = "Dask, client.map"
STATIC = "equal static shards"

_forward: Callable[[int], str]
"""Of this process, with its env."""


def available(*names: str) -> list[str]:
    """Those of `names` that are installed."""
    return [name for name in names if name != JOBLIB or importlib.util.find_spec("joblib")]


def ours_beside(
    measure: Callable[[str, int], Sample], *others: str
) -> dict[str, Callable[[], Sample]]:
    """espnet3 with 1 and 2 workers, a plain loop, and those of `others` that are installed with 2.

    Args:
        measure: called with who and how many workers.
        others: names of `peers`.
    """
    variants: dict[str, Callable[[], Sample]] = {
        f"{OURS}, 1 worker": partial(measure, OURS, 1),
        f"{OURS}, 2 workers": partial(measure, OURS, 2),
        LOOP: partial(measure, LOOP, 1),
    }
    for how in available(*others):
        variants[f"{how}, 2 workers"] = partial(measure, how, 2)
    return variants


def run(
    how: str,
    task: str,
    n: int,
    workers: int,
    out: str,
    options: dict[str, Any] | None = None,
    chunk: int = 1,
) -> dict[str, float]:
    """Do items 0..n-1 of a task and write their lines to `out`.

    Args:
        how: one of the names above.
        task: a function of `tasks`.
        n: how many items.
        workers: processes.
        out: the file.
        options: for `tasks.build`.
        chunk: items that travel to a process of a pool together.

    Returns:
        ``seconds``: of the whole call.
    """
    begin = perf_counter()
    setup = (task, options or {})
    if how == STATIC:
        _static_shards(setup, n, workers, Path(out))
    else:
        with open(out, "w", encoding="utf-8") as file:
            for line in _lines(how, setup, n, workers, chunk):
                file.write(line + "\n")
    return {"seconds": perf_counter() - begin}


def _lines(
    how: str, setup: tuple[str, dict[str, Any]], n: int, workers: int, chunk: int
) -> Iterator[str]:
    items = range(n)
    if how == LOOP:
        _start(*setup)
        yield from map(_forward, items)
    elif how == POOL:
        import multiprocessing

        with multiprocessing.Pool(workers, _start, setup) as pool:
            yield from pool.imap(_one, items, chunk)
    elif how == EXECUTOR:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(workers, initializer=_start, initargs=setup) as executor:
            yield from executor.map(_one, items, chunksize=chunk)
    elif how == JOBLIB:
        from joblib import Parallel, delayed

        parallel = Parallel(n_jobs=workers, return_as="generator")
        yield from parallel(delayed(_one_started)(*setup, i) for i in items)
    elif how == DASK:
        yield from _on_dask(setup, items, workers)
    else:
        raise ValueError(f"nothing is called {how!r}")


def _on_dask(
    setup: tuple[str, dict[str, Any]], items: Iterable[int], workers: int
) -> Iterator[str]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield from client.gather(client.map(partial(_one_started, *setup), list(items)))


def _start(task: str, options: dict[str, Any]) -> None:
    global _forward
    function, env = getattr(tasks, task), tasks.build(task, options)
    _forward = partial(function, **env) if env else function


def _one(idx: int) -> str:
    return _forward(idx)


def _one_started(task: str, options: dict[str, Any], idx: int) -> str:
    if "_forward" not in globals():
        _start(task, options)
    return _forward(idx)


def _static_shards(setup: tuple[str, dict[str, Any]], n: int, workers: int, out: Path) -> None:
    """Equal contiguous shards, one process each, as split_scp and ``nj`` share work.

    A shard's file gets its name when the shard is complete; called again, complete ones stay.
    """
    import multiprocessing
    import shutil

    bounds = [n * i // workers for i in range(workers + 1)]
    shards = [out.with_name(f"{out.name}.{i + 1}") for i in range(workers)]
    processes = [
        multiprocessing.Process(target=_shard, args=(*setup, first, stop, shard))
        for first, stop, shard in zip(bounds, bounds[1:], shards, strict=False)
        if not shard.exists()
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a shard failed")
    with out.open("wb") as merged:
        for shard in shards:
            with shard.open("rb") as file:
                shutil.copyfileobj(file, merged)


def _shard(task: str, options: dict[str, Any], first: int, stop: int, shard: Path) -> None:
    _start(task, options)
    temporary = shard.with_name(f"{shard.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for idx in range(first, stop):
            file.write(_forward(idx) + "\n")
    os.replace(temporary, shard)
