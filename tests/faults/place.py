"""Where a life happens: its directories, its trace, its counts, and full disks."""

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

DISK = "size=2m,nr_inodes=1500"
POLL = 0.002  # seconds


class Broken(AssertionError):
    """A promise of the product that does not hold."""


def await_that(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for something that another process brings about; whether it came."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


@dataclass
class Place:
    """The directories of one life.

    Attributes:
        root: of everything.
        out: the run directory; on a disk of its own if `small_disk` is set.
        log: where the workload notes what it did, never on that disk.
        small_disk: its mount point, or None.
        counts: what was done, by kind.
        trace: what was done, in order, for people.
    """

    root: Path
    small_disk: Path | None = None
    counts: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)
    echo: bool = False
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.log.mkdir()

    @property
    def log(self) -> Path:
        """Where the workload notes what it did."""
        return self.root / "log"

    @property
    def out(self) -> Path:
        """The run directory."""
        return (self.small_disk or self.root) / "out"

    def say(self, what: str) -> None:
        """Add a line to the trace."""
        line = f"{time.monotonic() - self._began:8.3f}  {what}"
        self.trace.append(line)
        if self.echo:
            os.write(1, f"{line}\n".encode())

    def count(self, kind: str, what: str = "") -> None:
        """A fault was done to the run."""
        self.counts[kind] += 1
        self.say(f"  -> {kind}{f': {what}' if what else ''}")

    def mount(self) -> bool:
        """Put the run on a small disk; False where mounting is not permitted."""
        disk = self.root / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", DISK, "espnet3-faults", str(disk)]
        with suppress(OSError):
            if not subprocess.run(command, capture_output=True).returncode:
                self.small_disk = disk
                return True
        return False

    def fill_disk(self, leave: int, inodes: bool) -> None:
        """Leave `leave` bytes, or no room for another file."""
        assert self.small_disk is not None
        if inodes:
            (self.small_disk / "many").mkdir(exist_ok=True)
            with suppress(OSError):
                for number in range(10_000):
                    (self.small_disk / "many" / str(number)).touch()
            return
        with suppress(OSError), (self.small_disk / "filler").open("ab", buffering=0) as f:
            with suppress(OSError):
                while f.write(bytes(4096)) == 4096:
                    pass
            f.truncate(max(0, f.tell() - leave))

    def free_disk(self) -> None:
        """Undo `fill_disk`."""
        if self.small_disk is not None:
            (self.small_disk / "filler").unlink(missing_ok=True)
            shutil.rmtree(self.small_disk / "many", ignore_errors=True)

    def keep(self) -> None:
        """Leave what there is for people to look at, but no mounted disk."""
        if self.small_disk is not None:
            with suppress(OSError, shutil.Error):
                shutil.copytree(self.out, self.root / "out")
            subprocess.run(["umount", "-l", str(self.small_disk)], check=False)
            self.small_disk = None

    def remove(self) -> None:
        """Leave nothing behind."""
        if self.small_disk is not None:
            subprocess.run(["umount", "-l", str(self.small_disk)], check=False)
        shutil.rmtree(self.root, ignore_errors=True)
