"""Reading `events.jsonl`, while it is written or afterwards."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet3.parallel.engine.files import EVENTS


@dataclass(frozen=True)
class Event:
    """One line of the log.

    Attributes:
        time: unix seconds, by the clock of the driver's host.
        epoch: the number of the start that it belongs to.
        event: its name.
        fields: all else that it says.
    """

    time: float
    epoch: int
    event: str
    fields: Mapping[str, Any]


class EventReader:
    """Reads the log of a run directory bit by bit.

    Lines that are torn or no events are left out, and so is what a former owner wrote after a newer
    one had started.

    Args:
        run_dir: the run directory; without a log there are no events.
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        self._path = Path(run_dir) / EVENTS
        self._offset = 0
        self._inode = -1
        self._epoch = 0

    def read(self) -> list[Event]:
        """The events that were written since the last call, in order; all at the first."""
        try:
            with self._path.open("rb") as f:
                status = os.fstat(f.fileno())
                if (status.st_ino, True) != (self._inode, status.st_size >= self._offset):
                    self._inode, self._offset, self._epoch = status.st_ino, 0, 0
                f.seek(self._offset)
                data = f.read()
        except OSError:
            return []
        whole = data.rfind(b"\n") + 1  # the last line may be half written
        self._offset += whole
        return [event for line in data[:whole].splitlines() if (event := self._event(line))]

    def _event(self, line: bytes) -> Event | None:
        try:
            fields = json.loads(line)
            event = Event(
                float(fields.pop("time")),
                int(fields.pop("epoch")),
                str(fields.pop("event")),
                fields,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if event.epoch < self._epoch:
            return None
        self._epoch = event.epoch
        return event


def read_events(run_dir: str | os.PathLike[str], run_id: str | None = None) -> list[Event]:
    """All events of a run directory, in order.

    Args:
        run_dir: the run directory.
        run_id: of its manifest, to leave out those of runs that were there before; None for all.
    """
    events = EventReader(run_dir).read()
    return events if run_id is None else of_run(events, run_id)


def of_run(events: Iterable[Event], run_id: str) -> list[Event]:
    """Those of the starts of one run, where the directory held others before."""
    chosen: list[Event] = []
    mine = False
    for event in events:
        if event.event == "start":
            mine = event.fields.get("run_id") == run_id
        if mine:
            chosen.append(event)
    return chosen
