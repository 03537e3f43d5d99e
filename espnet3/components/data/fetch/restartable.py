"""What download and extract share: records of what is done, and a run that goes by them.

Files that stand outside the run directory can be removed or replaced behind the engine's back, and
the list of items may grow. So the truth is a record for each item, beside the run; a run over the
items is only how the work is dealt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from espnet3.errors import IdentityChanged, RunFailed
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.engine.failures import HOW_TO_SKIP
from espnet3.parallel.engine.report import KILLED
from espnet3.parallel.parallel import get_settings, run_settings
from espnet3.utils import durable

RUN = "run"
"""Below a step's output directory, where its run and its records are kept."""

_HOW_TO_SKIP = "`skip_failed=True` (in this call) to do without"


class Records:
    """One small JSON file for each item in a directory, written in one step.

    Args:
        directory: Made when the first record is written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, name: str) -> dict[str, Any]:
        """Return the record of an item; empty if there is none that can be read."""
        try:
            record = json.loads(self._path(name).read_bytes())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def write(self, name: str, record: dict[str, Any]) -> None:
        """Write the record of an item over the one that is there."""
        self._directory.mkdir(parents=True, exist_ok=True)
        durable.replace(self._path(name), json.dumps({"item": name, **record}).encode())

    def remove(self, name: str) -> None:
        """Remove the record of an item, if there is one."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        # A name may be longer than that of a file, and `a.json/b` would want a directory `a.json`.
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def run_by_records(
    runner: BaseRunner,
    names: Sequence[str],
    is_done: Callable[[str], bool],
    *,
    skip_failed: bool,
) -> list[str]:
    """Run over the items until those that the engine counts as done are.

    The run starts over, which costs a look at each record, if it is over other items, if something
    that was done is not there any more, or if items only failed because their worker or driver was
    killed: what a killed transfer has left is gone on with.

    Two keys of the `run:` block that is set are for processing, and do not hold here. With
    ``on_error: skip`` a corpus with a hole would be taken for a whole one. With ``resume: false``
    nothing would be another: what is there is found by its record in any case.

    Args:
        runner: Its results are the names of the items that are done.
        names: The items.
        is_done: Whether an item's output is there as it was recorded.
        skip_failed: Do without items that fail.

    Returns:
        The items that are done; all of them, but for ``run.limit`` and `skip_failed`.
    """
    on_error = get_settings()[1].on_error
    if skip_failed:
        on_error = "skip"
    elif on_error == "skip":
        on_error = "finish"
    with run_settings(resume=True, on_error=on_error):
        for starts_over in (False, True):
            runner.starts_over = starts_over
            try:
                done = runner(names)
            except IdentityChanged:
                if starts_over:
                    raise
                continue
            except RunFailed as error:
                error.debug = ""  # the runner is nothing that the caller has in hand
                error.args = (error.summary.replace(HOW_TO_SKIP, _HOW_TO_SKIP),)
                if starts_over or any(failure["error"] != KILLED for failure in error.failures):
                    raise
                continue
            if done is None or all(map(is_done, done)):
                break
    return [name for name in names if is_done(name)]
