"""Asks a scheduler something, by a command of its own."""

import logging
import re
import subprocess
from collections.abc import Sequence

logger = logging.getLogger(__name__)

ANSWER_LIMIT = 60.0  # seconds that a scheduler may take to answer


def answer(command: Sequence[str], gone: str | None = None) -> str | None:
    """A command's output; None if nobody could say.

    Args:
        command: and its arguments.
        gone: a pattern for what it says of jobs that it does not know any more. If it fails with
            nothing but such lines, its output counts: it tells of the other jobs.
    """
    done = _run(command)
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
    done = _run(command, text)
    return done.stderr.strip() if done is not None and done.returncode else ""


def _run(
    command: Sequence[str], text: str | None = None
) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=ANSWER_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.debug("%s: %s", command[0], error)
        return None
