"""Seeing whether an owner lives that cannot be asked: does the heartbeat in its lock file move?

Nothing is compared with a clock of another host. A reader counts the seconds for which it has
itself seen the file stand still.
"""

import logging
import time
from pathlib import Path

from espnet3.errors import LedgerError, RunInUse
from espnet3.parallel.engine import heartbeat
from espnet3.parallel.engine.ledger import read_coverage
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.engine.owner import Owner, in_use, who, without_beat

logger = logging.getLogger(__name__)

PATIENCE = 180.0  # seconds without a heartbeat after which an owner on another host counts as dead
UNITS = 3  # it is never less than so many times the longest unit, which may hold the heartbeat up
GRACE = 0.3  # seconds in which whoever has just got the lock writes its name
SAY_EVERY = 30.0  # seconds between two lines about what is waited for


class Watch:
    """What this process itself has seen of a lock, and for how long."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._seen: Owner | None = None
        self._since = self._said = time.monotonic()
        self._announced = False
        self._longest: float | None = None

    def patience(self) -> float:
        """Seconds for which a heartbeat must stand before its owner is presumed dead."""
        if self._longest is None:
            self._longest = _longest_unit(self.run_dir)
        return max(PATIENCE, UNITS * self._longest)

    def stood(self, owner: Owner, here: Owner, wait: float) -> float:
        """Seconds for which the owner and its heartbeat have not changed.

        Raises:
            RunInUse: if the heartbeat moves, and that is what was waited for.
        """
        before, self._seen = self._seen, owner
        if before == owner:
            return time.monotonic() - self._since
        if wait > GRACE and before and without_beat(before) == without_beat(owner):
            raise RunInUse(
                f"{in_use(self.run_dir, owner, here)} It lives: its heartbeat comes. `run: "
                "{allow_overwrite_lock: true}` takes the run away from it all the same."
            )
        self._since = time.monotonic()
        self._announced = False
        return 0.0

    def pause(self, owner: Owner, wait: float) -> None:
        """Wait a little before the next look, and say what for."""
        if wait <= GRACE:
            time.sleep(0.01)
            return
        now = time.monotonic()
        if not self._announced:
            self._announced, self._said = True, now
            logger.warning(
                "%s is owned by %s. Whether that still lives can only be seen from its heartbeat "
                "(every %g s): waiting for it. If none comes for %.0f s, this driver takes over; "
                "`run: {allow_overwrite_lock: true}` does not wait.",
                self.run_dir, who(owner), heartbeat.BEAT, wait,
            )  # fmt: skip
        elif now - self._said >= SAY_EVERY:
            self._said = now
            stood = now - self._since
            logger.warning(
                "no heartbeat of pid %s on %s for %.0f s; waiting %.0f s more",
                owner.get("pid"), owner.get("host"), stood, max(0.0, wait - stood),
            )  # fmt: skip
        time.sleep(heartbeat.BEAT / 10)


def _longest_unit(run_dir: Path) -> float:
    """Seconds that the longest unit of the run took, as far as its ledger knows."""
    try:
        manifest = Manifest.read(run_dir)
        return read_coverage(run_dir, manifest.run_id).longest if manifest else 0.0
    except (LedgerError, OSError):
        return 0.0
