"""Asks a scheduler something, by a command of its own."""

import logging
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

logger = logging.getLogger(__name__)

ANSWER_LIMIT = 60.0  # seconds that a scheduler may take to answer


def answer(command: Sequence[str], gone: str | None = None) -> str | None:
    """A command's output; None if nobody could say.

    Args:
        command: and its arguments.
        gone: a pattern for what it says of jobs that it does not know any more. If it fails with
            nothing but such lines, its output counts: it tells of the other jobs.
    """
    done = _tried(command)
    if done is None:
        return None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == 0:
        return done.stdout
    if gone is not None and said and all(re.search(gone, line) for line in said):
        return done.stdout
    logger.debug("%s: %s", command[0], done.stderr.strip())
    return None


def refusal(command: Sequence[str], text: str) -> str:
    """What a command says of a text that it refuses; "" if it does not, or cannot be run."""
    done = _tried(command, text)
    return done.stderr.strip() if done is not None and done.returncode else ""


def _tried(
    command: Sequence[str], text: str | None = None
) -> subprocess.CompletedProcess[str] | None:
    try:
        return run(command, text)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.debug("%s: %s", command[0], error)
        return None


def run(
    command: Sequence[str], text: str | None = None, limit: float = ANSWER_LIMIT
) -> subprocess.CompletedProcess[str]:
    """Run a command, and end it with whatever it has started if it takes too long.

    Args:
        command: and its arguments.
        text: that it reads.
        limit: in seconds.

    Raises:
        OSError: if it cannot be run.
        subprocess.TimeoutExpired: if it took longer.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if text is None else pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        errors="replace",
        # A site's wrapper script leaves the command behind, which keeps the pipes open.
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(text, timeout=limit)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
