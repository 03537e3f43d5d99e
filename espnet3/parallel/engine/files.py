"""What the files of a run directory are called; `docs/run-directory.md` says what they hold."""

import re

MANIFEST = "manifest.json"
CONFIG = "config.yaml"
PREVIOUS = "manifest.previous.json"
PREVIOUS_CONFIG = "config.previous.yaml"
LEDGER = "ledger.{epoch}.jsonl"
LEDGER_NAME = re.compile(r"ledger\.([1-9]\d*)\.jsonl")
EVENTS = "events.jsonl"
FAILURES = "failures.jsonl"
DURATIONS = "durations.f32"
ORDER = "order.{run_id}.u32"
ORDER_NAME = re.compile(r"order\.[0-9a-f]+\.u32")
LOCK = "lock"
STOP = "stop.json"
SHARD = "split."
"""What names of shard directories begin with; digits follow."""
RECORD = "done"
"""In a shard directory: it is complete."""

LOGS = "logs"
WORKER_LOG = "worker.{name}.log"
WORKER_LOG_NAME = re.compile(r"worker\.(.+)\.log")
IN_FLIGHT = "inflight."
"""What names of markers begin with; the worker's follows."""
DASK_LOG = "dask.log"

_NAMES = {
    MANIFEST,
    CONFIG,
    PREVIOUS,
    PREVIOUS_CONFIG,
    EVENTS,
    FAILURES,
    DURATIONS,
    LOCK,
    STOP,
    LOGS,
}


def is_of_engine(name: str) -> bool:
    """Whether the engine has made a file of a run directory; what is left is the merge's."""
    if name in _NAMES or name.startswith((SHARD, ".")):
        return True
    return any(pattern.fullmatch(name) for pattern in (LEDGER_NAME, ORDER_NAME))
