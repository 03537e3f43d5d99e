"""A cold import of what every recipe imports."""

from collections.abc import Callable
from functools import partial

from benchmarks.measure import OURS, Options, Sample, Table, in_turn, python

MODULE = "espnet3.parallel.base_runner"
HEAVY = ("torch", "dask", "distributed", "hydra", "omegaconf", "numpy")

_CODE = """
import {module}
import sys
print(*[name for name in {heavy} if name in sys.modules])
print(*[l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")])
"""


def run(options: Options) -> list[Table]:
    """Whole processes that import one module and end."""
    loaded: set[str] = set()
    variants: dict[str, Callable[[], Sample]] = {
        OURS: partial(_import, MODULE, loaded),
        "import distributed": partial(_import, "distributed", set()),
        "import numpy": partial(_import, "numpy", set()),
        "nothing (the interpreter)": partial(_import, "sys", set()),
    }
    table = Table(f"Cold import of {MODULE}, whole process")
    table.rows = in_turn(variants, options.repeats, warm_up=True)
    there = ", ".join(sorted(loaded)) or "none"
    table.notes = [f"of {', '.join(HEAVY)} it loads: {there}"]
    return [table]


def _import(module: str, loaded: set[str]) -> Sample:
    seconds, said = python(["-c", _CODE.format(module=module, heavy=HEAVY)])
    names, kib = said.splitlines()
    loaded.update(names.split())
    return {"seconds": seconds, "peak MiB": int(kib) / 1024}
