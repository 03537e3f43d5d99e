"""A workload whose items fail, hang and kill their worker as told, and that notes what was done.

What an item shall do wrong stands in a file (`item.<position>`), so that mending it changes no
run's identity. Every call of `forward` leaves a line of fixed width in `forwards`, so that others
can await and count them by the file's size alone.
"""

import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from espnet3.errors import RecordRejected

# Worker processes are given this process's path, and with it what both kinds of tests share.
sys.path.insert(0, str(Path(__file__).parents[1] / "parallel"))

from workloads import Awkward, Lines, Provider, note, notes

__all__ = ["Forward", "Fragile", "Provider", "deaths", "forwards", "n_forwards", "tell"]

START = "FAULTS_START"  # number of the driver's start, in its workers' environment too
PACE = "FAULTS_PACE"  # seconds that an item takes
STATUS = 77  # of a process that an item ends with `os._exit`

_LINE = "{item:5d} {pid:9d} {start:4d} {first:5d}"
_WIDTH = len(_LINE.format(item=0, pid=0, start=0, first=0)) + 1


@dataclass(frozen=True, eq=False)
class Forward:
    """One item that `forward` was called for: by whom, in which start, in a unit from where.

    Each is one event: two are never equal, whatever they say.
    """

    item: int
    pid: int
    start: int
    first: int


def n_forwards(log: Path) -> int:
    """How many lines `forwards` has; costs one `stat`."""
    try:
        return (log / "forwards").stat().st_size // _WIDTH
    except FileNotFoundError:
        return 0


def forwards(log: Path) -> list[Forward]:
    """Everything that was begun, in order."""
    return [Forward(*map(int, line.split())) for line in notes(log, "forwards")]


def deaths(log: Path) -> set[int]:
    """Processes that an item has ended, or has made hang until they were ended."""
    return {int(line.split()[0]) for line in notes(log, "deaths")}


def tell(log: Path, item: int, what: str | None) -> None:
    """Say what an item shall do wrong; None mends it."""
    path = log / f"item.{item}"
    path.unlink(missing_ok=True) if what is None else path.write_text(what)


def _told(log: str, item: int) -> str:
    """What an item shall do wrong now. What it does once is over when it is read."""
    path = Path(log) / f"item.{item}"
    try:
        what = path.read_text()
    except FileNotFoundError:
        return ""
    if what.endswith(" once"):
        path.unlink(missing_ok=True)
    return what.removesuffix(" once")


def _misbehave(log: str, item: int, unit_size: int) -> None:
    what = _told(log, item)
    if what in ("kill", "segv", "leave", "hang", "stall"):
        note(log, "deaths", f"{os.getpid()} {item}")
    match what.split():
        case ["raise"]:
            raise ValueError(f"item {item} is bad")
        case ["awkward"]:
            raise Awkward("one", "other")
        case ["exit"]:
            sys.exit(3)
        case ["memory", most] if unit_size > int(most):
            raise MemoryError(f"{unit_size} items")
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["segv"]:
            ctypes.string_at(0)
        case ["leave"]:
            os._exit(STATUS)
        case ["hang"]:
            while True:
                time.sleep(60)
        case ["stall"]:  # in C, with the GIL: no signal handler of Python's runs
            ctypes.PyDLL(None).sleep(3600)


class Fragile(Lines):
    """`Lines`, for items that misbehave."""

    per_item_output = True

    @staticmethod
    def forward(idx, dataset, model, log, **env):
        unit = idx if isinstance(idx, list) else [idx]
        start, pace = int(os.environ[START]), float(os.environ[PACE])
        for item in unit:
            line = _LINE.format(item=item, pid=os.getpid(), start=start, first=unit[0])
            note(log, "forwards", line)
        for item in unit:
            _misbehave(log, item, len(unit))
            time.sleep(pace)
        records = [
            {"utt_id": dataset[item]["utt_id"], "text": model(dataset[item]["speech"]), "at": item}
            for item in unit
        ]
        return records if isinstance(idx, list) else records[0]

    @staticmethod
    def write_record(writers, result, state, log, **env):
        records = result if isinstance(result, list) else [result]
        told = [_told(log, record["at"]) for record in records]
        if "reject" in told:
            raise RecordRejected("an id that cannot be written")
        if "break" in told:
            writers["text"].write("half a li")
            raise KeyError("text")
        Lines.write_record(writers, result, state)

    @staticmethod
    def close_writers(writers, state, log, **env):
        note(log, "closings", os.environ[START])
        return Lines.close_writers(writers, state)

    def merge(self, shard_dirs):
        note(self.provider.config["log"], "mergings", os.environ[START])
        time.sleep(0.02)  # so that signals meet it
        return super().merge(shard_dirs)
