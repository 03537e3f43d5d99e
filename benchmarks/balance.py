"""Items of very different length on four workers: how long the last one keeps the others waiting.

Items sleep, so that four workers fit on fewer cores. They note when they begin and end themselves:
the makespan is from the first begin to the last end, without start-up and merge.
"""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.measure import OURS, MeasurementFailed, Options, Sample, Table, child, in_turn

N = 200
WORKERS = 4
SIGMA = 0.8
TOTAL, TOTAL_QUICK = 60.0, 12.0
SHARE = "share of the ideal"


def run(options: Options) -> list[Table]:
    """The three orders; every round draws new lengths, the same for all."""
    return [_table(options, order) for order in ("ascending", "descending", "shuffled")]


def ours(seconds: list[float], out: str, known: bool) -> int:
    """Runs in a measured process, on workers that are up; returns how many shards there were."""
    from benchmarks import runners
    from espnet3.parallel.parallel import parallel_session

    with parallel_session():
        brief = {"seconds": [0.02] * 10 * WORKERS}
        runners.run("nap", 10 * WORKERS, WORKERS, Path(out) / "warm", brief)
        durations = seconds if known else None
        place = Path(out) / "run"
        runners.run("nap", len(seconds), WORKERS, place, {"seconds": seconds}, durations)
    return len(list(place.glob("split.*")))


def _table(options: Options, order: str) -> Table:
    total = TOTAL_QUICK if options.quick else TOTAL
    rounds = [_lengths(total, order, seed) for seed in range(options.repeats)]
    variants: dict[str, Callable[[list[float], Options], Sample]] = {
        OURS: partial(_ours, known=False),
        f"{OURS}, durations known": partial(_ours, known=True),
        peers.STATIC: partial(_theirs, how=peers.STATIC),
        f"{peers.POOL}, one by one": partial(_theirs, how=peers.POOL),
    }
    title = f"{N} log-normal items of {total:.0f} s in all, {WORKERS} workers, {order}"
    table = Table(title, {who: [] for who in variants})
    for seconds in rounds:
        measured = in_turn({w: partial(m, seconds, options) for w, m in variants.items()}, 1)
        for who, samples in measured.items():
            table.rows[who] += samples
    table.notes = ["a pool keeps nothing on disk: what it loses, it loses whole"]
    return table


def _lengths(total: float, order: str, seed: int) -> list[float]:
    generator = random.Random(seed)
    drawn = [generator.lognormvariate(0.0, SIGMA) for _ in range(N)]
    seconds = [total * length / sum(drawn) for length in drawn]
    return seconds if order == "shuffled" else sorted(seconds, reverse=order == "descending")


def _ours(seconds: list[float], options: Options, known: bool) -> Sample:
    out = options.place()
    kwargs = {"seconds": seconds, "out": out, "known": known}
    shards = child("benchmarks.balance:ours", kwargs).returned
    return {**_sample(out / "run" / "lines", seconds), "shards": shards}


def _theirs(seconds: list[float], options: Options, how: str) -> Sample:
    out = options.place() / "lines"
    kwargs = {"how": how, "task": "nap", "n": N, "workers": WORKERS, "out": out}
    child("benchmarks.peers:run", {**kwargs, "options": {"seconds": seconds}})
    return _sample(out, seconds)


def _sample(lines: Path, seconds: list[float]) -> Sample:
    spans = [line.split() for line in lines.read_text(encoding="ascii").splitlines()]
    if len(spans) != len(seconds):
        raise MeasurementFailed(f"{len(spans)} lines for {len(seconds)} items")
    makespan = max(float(end) for _, end in spans) - min(float(begin) for begin, _ in spans)
    ideal = max(sum(seconds) / WORKERS, max(seconds))
    return {SHARE: ideal / makespan, "makespan seconds": makespan}
