"""`stop.json`: asks the driver of a run, from whatever host, to drain.

It names the owner that is meant, as the lock does, so that no other process and no later start
heeds it. The driver looks for it at each heartbeat.
"""

import json
import logging
import os
import signal
from contextlib import suppress
from pathlib import Path

from espnet3.parallel.engine.files import STOP
from espnet3.parallel.engine.owner import Owner, without_beat
from espnet3.utils import durable

logger = logging.getLogger(__name__)


def write_request(run_dir: Path, owner: Owner, by: str) -> None:
    """Ask that owner to drain.

    Args:
        run_dir: the run directory.
        owner: what the lock says of it.
        by: who asks, for people.

    Raises:
        OSError: if it cannot be written.
    """
    request = {"owner": dict(without_beat(owner)), "by": by}
    durable.replace(run_dir / STOP, json.dumps(request).encode() + b"\n")


def remove_request(run_dir: Path) -> None:
    """Take a request away: it was heeded, or is for an owner that has ended."""
    with suppress(OSError):
        (run_dir / STOP).unlink()


def heed_request(run_dir: Path, owner: Owner) -> bool:
    """Whether this process, that owner, is asked to drain; then it sends itself SIGTERM.

    From there on it goes as if somebody on this host had sent it.
    """
    try:
        request = json.loads((run_dir / STOP).read_bytes())
        is_meant = bool(request["owner"] == dict(owner))
        by = str(request.get("by", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if is_meant:
        logger.warning("asked to stop by %s", by)
        os.kill(os.getpid(), signal.SIGTERM)
        remove_request(run_dir)  # whoever sees it gone may count on the signal
    return is_meant
