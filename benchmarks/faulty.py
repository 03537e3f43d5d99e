"""A workload with faults, in a process of its own that may be killed; see `what_happens`."""

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.runners import LINES, LineRunner, TaskProvider
from espnet3.errors import RunFailed, RunInUse
from espnet3.parallel.parallel import set_parallel


class Faulty(LineRunner):
    """Notes each item that is begun; a file ``trouble/<item>`` says what it does wrong."""

    per_item_output: ClassVar[bool] = True

    @staticmethod
    def forward(idx: Any, log: str, trouble: str, seconds: float, **env: Any) -> Any:
        """Take `seconds` for each item, and meet its fate."""
        if isinstance(idx, list):
            return [Faulty.forward(i, log, trouble, seconds) for i in idx]
        with open(Path(log) / str(os.getpid()), "a", encoding="ascii") as file:
            file.write(f"{idx}\n")
        fate = Path(trouble) / str(idx)
        if fate.exists():
            _meet(fate)
        time.sleep(seconds)
        return f"utt{idx:03d} {idx * 2654435761 % 2**32:08x}"

    @staticmethod
    def write_record(writers: dict[str, Any], result: Any, state: Any, **env: Any) -> None:
        """Write a line for each item."""
        for line in result if isinstance(result, list) else [result]:
            writers["lines"].write(line + "\n")


def _meet(fate: Path) -> None:
    what = fate.read_text(encoding="ascii")
    if what == "raise":
        raise ValueError("a broken file")
    if what.endswith("once"):
        fate.unlink()
    if what.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        ctypes.PyDLL(None).sleep(600)  # in C, and the GIL is held


def run(
    root: str, workers: int, batch_size: int | None = None, seconds: float = 0.02, **how: Any
) -> str:
    """Do 100 items; returns how it ended: the error's name and its failed items, or ``merged``."""
    set_parallel({"env": "local", "n_workers": workers}, run=how)
    place = Path(root)
    options = {"log": str(place / "log"), "trouble": str(place / "trouble"), "seconds": seconds}
    provider = TaskProvider({"task": "logged", "options": options})
    try:
        Faulty(provider, batch_size=batch_size, output_dir=place / "run")(range(100))
    except RunFailed as error:
        return f"RunFailed {[f['position'] for f in error.failures]}"
    except RunInUse:
        return "RunInUse"
    n_lines = len((place / "run" / LINES).read_bytes().splitlines())
    return f"merged {n_lines}"
