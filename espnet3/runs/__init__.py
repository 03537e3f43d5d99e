"""Looking at runs from outside, and steering them: on any host, live or after the fact.

What looks (`snapshot`, `read_events`, `unit_times`, the logs) locks and changes nothing. `stop`
asks a driver to drain. `clear_failures` and `clean` change a run that no driver has.

from espnet3 import runs

for run_dir in runs.find_runs("exp/asr/inference"):
    seen = runs.snapshot(run_dir)
    print(run_dir, seen.state, seen.done, "of", seen.goal)
"""

from espnet3.runs.clean import clean
from espnet3.runs.events import Event, EventReader, read_events
from espnet3.runs.find import find_runs
from espnet3.runs.logs import failed_attempts, item_log, log_files, still_failed, worker_log
from espnet3.runs.retry import clear_failures, last_command
from espnet3.runs.snapshot import RunReader, snapshot
from espnet3.runs.stop import stop
from espnet3.runs.text import describe
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
    "clean",
    "clear_failures",
    "describe",
    "failed_attempts",
    "find_runs",
    "item_log",
    "last_command",
    "log_files",
    "read_events",
    "snapshot",
    "still_failed",
    "stop",
    "unit_times",
    "worker_log",
]
