"""Looking at runs from outside: on any host, live or after the fact, without changing anything.

from espnet3 import runs

for run_dir in runs.find_runs("exp/asr/inference"):
    seen = runs.snapshot(run_dir)
    print(run_dir, seen.state, seen.done, "of", seen.goal)
"""

from espnet3.runs.events import Event, EventReader, read_events
from espnet3.runs.find import find_runs
from espnet3.runs.snapshot import RunReader, snapshot
from espnet3.runs.unit_times import UnitRecord, unit_times
from espnet3.runs.views import FailedItem, OwnerView, SlowItem, Snapshot, WorkerView

__all__ = [
    "Event",
    "EventReader",
    "FailedItem",
    "OwnerView",
    "RunReader",
    "SlowItem",
    "Snapshot",
    "UnitRecord",
    "WorkerView",
    "find_runs",
    "read_events",
    "snapshot",
    "unit_times",
]
