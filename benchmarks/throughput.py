"""Many trivial items with one line of text each: what the engine costs per item."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.measure import OURS, Options, Sample, Table, child, in_turn

N, N_QUICK = 100_000, 20_000
START = 8
CHUNK = 1000


def run(options: Options) -> list[Table]:
    """In one process, the start taken off; then whole calls with two workers."""
    n = N_QUICK if options.quick else N
    here = Table(f"{n:,} trivial items, one line each, in one process")
    here.rows = in_turn(
        {OURS: partial(_ours_here, options, n), peers.LOOP: partial(_loop_here, options, n)},
        options.repeats,
    )
    here.notes = [
        f"the call on {START} items is taken off the first column, which has all commits and the "
        "merge; the loop column has forward and write_record, between opening and closing files"
    ]
    others = (peers.POOL, peers.EXECUTOR, peers.JOBLIB, peers.STATIC)
    variants: dict[str, Callable[[], Sample]] = {OURS: partial(_call, options, n, None)}
    variants |= {how: partial(_call, options, n, how) for how in peers.available(*others)}
    two = Table(f"{n:,} trivial items, one line each, 2 workers, whole call")
    two.rows = in_turn(variants, options.repeats)
    two.notes = [f"pools get {CHUNK} items at a time; joblib chooses itself"]
    return [here, two]


def in_process(n: int, out: str) -> dict[str, float]:
    """Runs in a measured process: items/s of espnet3 without its start, and in its loop."""
    from benchmarks import runners

    calls = [("first", START), ("start", START), ("all", n)]
    seconds = {}
    for name, count in calls:
        runners.loop_seconds.clear()
        seconds[name] = runners.run("text", count, 1, Path(out) / name)["seconds"]
    return {
        "items/s, call less start": (n - START) / (seconds["all"] - seconds["start"]),
        "items/s, loop": n / sum(runners.loop_seconds),
        "call seconds": seconds["all"],
        "start seconds": seconds["start"],
    }


def _ours_here(options: Options, n: int) -> Sample:
    kwargs = {"n": n, "out": options.place()}
    returned: dict[str, float] = child("benchmarks.throughput:in_process", kwargs).returned
    return returned


def _loop_here(options: Options, n: int) -> Sample:
    call = _peer(options, n, peers.LOOP, workers=1)
    return {"items/s, call less start": n / call["seconds"], "call seconds": call["seconds"]}


def _call(options: Options, n: int, how: str | None) -> Sample:
    if how is not None:
        call = _peer(options, n, how, workers=2)
    else:
        kwargs = {"task": "text", "n": n, "workers": 2, "out": options.place()}
        call = child("benchmarks.runners:run", kwargs).returned
    return {"seconds": call["seconds"], "items/s": n / call["seconds"]}


def _peer(options: Options, n: int, how: str, workers: int) -> Any:
    kwargs = {"how": how, "task": "text", "n": n, "workers": workers, "chunk": CHUNK}
    return child("benchmarks.peers:run", {**kwargs, "out": options.place() / "lines"}).returned
