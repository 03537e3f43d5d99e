"""How a worker ended."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Death:
    """What is known of how a worker ended.

    Attributes:
        how: in words, such as `killed by signal 9 (SIGKILL)`; "" if unknown.
        by_driver_at: the position for whose unit's long time the driver itself ended the worker;
            None if it was not the driver.
        worker: its name.
        process: its name and pid.
        log: its log file, below the run directory; "" if there is none.
        stack: where it was then, formatted like a traceback, if the driver ended it; "" if unknown.
        doing: what it was doing if it had no lease, such as `while Provider built its env`.
        told_to_end: somebody sent it SIGTERM, as for any process that is no longer wanted there.
    """

    how: str = ""
    by_driver_at: int | None = None
    worker: str = ""
    log: str = ""
    stack: str = ""
    doing: str = ""
    told_to_end: bool = False
    process: str = ""

    def told(self, run_dir: Path) -> str:
        """All of it in words."""
        what = f"worker {self.worker}: {self.how or 'died, nobody knows how'}"
        log = f" (its log is {run_dir / self.log})" if self.log else ""
        return f"{what}{f' {self.doing}' if self.doing else ''}{log}"


UNKNOWN = Death()
