"""Runs whose results are files that say themselves what is done, such as downloads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from espnet3.errors import DataError
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.engine.items import digest_items
from espnet3.parallel.engine.manifest import Manifest

logger = logging.getLogger(__name__)


class ResultGone(DataError):
    """Raised by the `merge` of such a run for a result that was made and is not there any more."""


def run_over_files(runner: BaseRunner, items: Sequence[Any]) -> Any:
    """Call a runner whose `forward` leaves alone what is there and right.

    So the run may begin anew over another list of items, or where a result is gone, and does again
    no more than it must.
    """
    before = Manifest.read(runner.run_dir)
    runner.resume = before is None or before.items == digest_items(items)
    try:
        return runner(items)
    except ResultGone as error:
        logger.warning("%s; everything is looked at again", error)
        runner.resume = False
        return runner(items)
