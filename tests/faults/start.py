"""One start of a driver: its process, its workers, how far it has come, what it ended with."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fragile import PACE, START, n_forwards, notes
from place import Broken, Place, await_that

import espnet3

END_LIMIT = 60.0  # seconds: a start that takes longer hangs
ORPHAN_LIMIT = 20.0  # seconds that workers may outlive their driver
_ROOT = Path(espnet3.__file__).parents[1]


@dataclass
class Start:
    """A driver process, begun when this is made.

    Attributes:
        place: of the life.
        number: counts the starts of a life.
        items: of the run.
        by_length: the first one is the longest, and the last one the shortest.
        workers: 1 is in process.
        batch_size: positions of a unit.
        run: keys of the `run:` block.
        resume: as for the runner.
        pace: seconds that an item takes.
    """

    place: Place
    number: int
    items: Sequence[int]
    by_length: bool = False
    workers: int = 1
    batch_size: int | None = None
    run: dict[str, Any] = field(default_factory=dict)
    resume: bool = True
    pace: float = 0.0
    signals: set[int] = field(default_factory=set)
    """What was sent to the driver itself."""
    killed: set[int] = field(default_factory=set)
    """Processes that were ended in the middle of what they did."""
    hit_early: bool = False
    """A worker was ended before any item was begun."""
    disk_was_full: bool = False
    superseded: bool = False
    """Another driver took the run over while this one was suspended."""

    over: bool = False
    """It was awaited, and nobody of it is left."""

    def __post_init__(self) -> None:
        self._forwards_before = n_forwards(self.place.log)
        parallel = {"n_workers": self.workers, **self.run}
        plan = {
            "out": str(self.place.out),
            "log": str(self.place.log),
            "items": list(self.items),
            "by_length": self.by_length,
            "batch_size": self.batch_size,
            "resume": self.resume,
            "parallel": parallel,
            "outcome": str(self._outcome_path),
        }
        self.place.say(
            f"start {self.number}: batch_size {self.batch_size}, {parallel}, "
            f"{1000 * self.pace:g} ms an item{'' if self.resume else ', resume: false'}"
        )
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        with self.text_path.open("wb") as text:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("fragile_driver.py"))]
                + [json.dumps(plan)],
                env={
                    **os.environ,
                    "PYTHONPATH": path,
                    START: str(self.number),
                    PACE: str(self.pace),
                },
                stdin=subprocess.DEVNULL,
                stdout=text,
                stderr=text,
                start_new_session=True,  # so that all of it can be found, and signalled
            )

    @property
    def pid(self) -> int:
        """The driver's."""
        return self.process.pid

    @property
    def text_path(self) -> Path:
        """What it and its workers wrote to the terminal."""
        return self.place.root / f"start.{self.number}.txt"

    @property
    def text(self) -> str:
        """What it and its workers wrote to the terminal."""
        return self.text_path.read_text(errors="replace")

    @property
    def _outcome_path(self) -> Path:
        return self.place.root / f"outcome.{self.number}.json"

    @property
    def outcome(self) -> dict[str, Any]:
        """What it ended with; `kind` is empty if it could not tell."""
        try:
            outcome: dict[str, Any] = json.loads(self._outcome_path.read_text())
        except FileNotFoundError:
            return {"kind": "", "message": "", "failures": []}
        return outcome

    @property
    def ended(self) -> bool:
        """Whether the driver's process has ended."""
        return self.process.poll() is not None

    @property
    def forwards(self) -> int:
        """Items begun since this start began."""
        return n_forwards(self.place.log) - self._forwards_before

    def noted(self, name: str) -> int:
        """How often the workload noted something in this start."""
        return notes(self.place.log, name).count(str(self.number))

    def members(self) -> list[int]:
        """Processes of this start that still do anything, the driver among them."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError, IndexError):
                    stat = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                    if stat[3] == str(self.pid) and stat[0] not in "ZX":
                        found.append(int(name))
        return sorted(found)

    def workers_now(self) -> list[int]:
        """Worker processes, whether they have begun anything or not."""
        found = []
        for pid in self.members():
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"spawn_main" in command:
                    found.append(pid)
        return found

    def send(self, number: int, *, group: bool = False) -> bool:
        """Send the driver a signal, or everybody; whether it was still there."""
        if self.ended:
            return False
        at_once = number == signal.SIGINT and self.signals & {signal.SIGINT, signal.SIGTERM}
        if at_once or number == signal.SIGKILL:
            self.killed |= {*self.members(), self.pid}
        self.signals.add(number)
        if group:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
        else:
            self.process.send_signal(number)
        return True

    def wait(self) -> int:
        """Await the end of the driver and of all its workers; return the exit status.

        Raises:
            Broken: if it hangs, or leaves orphans.
        """
        try:
            status = self.process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGUSR1)  # it writes its stacks down
            await_that(lambda: "most recent call first" in self.text, 5)
            raise Broken(f"start {self.number} does not end:\n{self.text[-6000:]}") from None
        if not await_that(lambda: not self.members(), ORPHAN_LIMIT):
            raise Broken(f"start {self.number} left orphans: {self._told_of(self.members())}")
        self.over = True
        self.place.say(f"start {self.number} ended with {status} {self.outcome['kind']}")
        return status

    @staticmethod
    def _told_of(pids: list[int]) -> str:
        """What processes are, for a message."""
        told = []
        for pid in pids:
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                waits = Path(f"/proc/{pid}/wchan").read_text()
                told.append(f"{pid} (state {state[0]}, parent {state[1]}, in {waits}): {command}")
        return "\n".join(told)

    def kill_all(self) -> None:
        """End whatever is left of it, for a life that is over."""
        if self.over:  # its pid may be another's by now
            return
        for pid in self.members():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
