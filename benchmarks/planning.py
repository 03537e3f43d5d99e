"""A hundred million items: what a run costs before its first item."""

import json
import time
from functools import partial
from pathlib import Path

from benchmarks.child import peak_mib
from benchmarks.measure import OURS, Options, Sample, Table, child, in_turn

N = 100_000_000
N_SMALL = 1000
N_LIST, N_LIST_QUICK = 5_000_000, 500_000
LIST = "a list of indices as JSON"


def run(options: Options) -> list[Table]:
    """Time to the first `forward`, memory, and what is written down about the items."""
    n_list = N_LIST_QUICK if options.quick else N_LIST
    table = Table(f"range({N:,}): until the first forward")
    table.rows = in_turn(
        {
            OURS: partial(_sample, "ours", N, options),
            f"{OURS}, range({N_SMALL})": partial(_sample, "ours", N_SMALL, options),
            f"{LIST}, {n_list:,}": partial(_sample, "index_list", n_list, options),
        },
        options.repeats,
    )
    table.notes = ["the first call imports the engine; again: another run in the same process"]
    return [table]


def ours(n: int, out: str) -> dict[str, float]:
    """Runs in a measured process: the first item of `range(n)`."""
    from benchmarks import runners

    before, begin = peak_mib(), time.monotonic()
    runners.run("clock", n, 1, Path(out) / "first", limit=1)
    after, begin_again = peak_mib(), time.monotonic()
    runners.run("clock", n, 1, Path(out) / "again", limit=1)
    return {
        "seconds": _first_forward(Path(out) / "first") - begin,
        "seconds, again": _first_forward(Path(out) / "again") - begin_again,
        "MiB more": after - before,
        "bytes": (Path(out) / "first" / "manifest.json").stat().st_size,
    }


def index_list(n: int, out: str) -> dict[str, float]:
    """Runs in a measured process: a plan that writes every index down, as some tools do."""
    before, begin = peak_mib(), time.monotonic()
    plan = Path(out) / "plan.json"
    plan.write_text(json.dumps(list(range(n)), indent=1), encoding="ascii")
    seconds = time.monotonic() - begin
    return {"seconds": seconds, "MiB more": peak_mib() - before, "bytes": plan.stat().st_size}


def _first_forward(run_dir: Path) -> float:
    (lines,) = run_dir.glob("split.*/lines")
    return float(lines.read_text(encoding="ascii"))


def _sample(function: str, n: int, options: Options) -> Sample:
    kwargs = {"n": n, "out": options.place()}
    returned: dict[str, float] = child(f"benchmarks.planning:{function}", kwargs).returned
    return returned
