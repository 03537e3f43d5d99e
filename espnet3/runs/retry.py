"""Trying failed items again: their marks are cleared, and the last command is told."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet3.errors import DataError
from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.events import EVENTS, STOPPED
from espnet3.parallel.engine.order import Order
from espnet3.parallel.engine.order_file import read_order
from espnet3.runs.events import read_events
from espnet3.runs.own import coverage_of, order_of, own_for_a_moment


@dataclass(frozen=True)
class Command:
    """How the last start of a run was given.

    Attributes:
        words: the command line, interpreter included, secrets masked.
        python: the interpreter's path.
        working_directory: that it was given in.
        refusal: why nobody but its user can give it again; "" if it is a recipe's `run.py`, whole
            and in place.
    """

    words: tuple[str, ...]
    python: str
    working_directory: str
    refusal: str

    def __str__(self) -> str:
        words = shlex.join((self.python or self.words[0], *self.words[1:]))
        where = self.working_directory
        return f"cd {shlex.quote(where)} && {words}" if where else words


def clear_failures(run_dir: str | os.PathLike[str], item: str | None = None) -> list[str]:
    """Let failed items be as if they had never been tried, those that killed workers too.

    The next start would try the others again anyway; those that killed `max_kills` workers it
    would not.

    Args:
        run_dir: the run directory.
        item: the name of one of them, or `#position`; None for all.

    Returns:
        Their names, by position.

    Raises:
        DataError: if that item has not failed.
        FileNotFoundError: if no run began there.
        RunInUse: if a driver has it.
        LedgerError: if its files are damaged.
        RunStopped: if the file system refuses something.
    """
    run_dir = Path(run_dir)
    if not _chosen(
        run_dir, coverage_of(run_dir), order_of(run_dir), item
    ):  # no start is counted for that
        return []
    with own_for_a_moment(run_dir) as run:
        chosen = _chosen(run_dir, run.ledger.coverage, read_order(run_dir, run.manifest), item)
        if chosen:
            run.ledger.append({"kind": "retry", "positions": sorted(chosen), "anew": True})
            run.ledger.flush()
            run.events.tell("retry", items=len(chosen))
            count = "1 failed item is" if len(chosen) == 1 else f"{len(chosen)} failed items are"
            run.events.state(STOPPED, f"{count} to be done again by the next start")
        return list(chosen.values())


def _chosen(run_dir: Path, coverage: Coverage, order: Order, item: str | None) -> dict[int, str]:
    """Failed place -> name, of all or of that item, by position.

    Raises:
        DataError: if that item has not failed.
    """
    places = sorted(coverage.failed, key=order.position)
    names = {place: coverage.name_of(place, order) for place in places}
    chosen = {
        place: name
        for place, name in names.items()
        if item in (None, name, f"#{order.position(place)}")
    }
    if item is not None and not chosen:
        raise DataError(f"{item!r} is not among the {len(names)} failed items of {run_dir}")
    return chosen


def last_command(run_dir: str | os.PathLike[str]) -> Command | None:
    """The command of the last start of a run; None where it was not recorded."""
    starts = [event for event in read_events(run_dir) if event.event == "start"]
    if not starts:
        return None
    start = starts[-1].fields
    words = tuple(str(word) for word in start.get("command", ()))
    return Command(
        words,
        str(start.get("python", "")),
        str(start.get("cwd", "")),
        _refusal(Path(run_dir), words, start),
    )


def _refusal(run_dir: Path, words: tuple[str, ...], start: Mapping[str, Any]) -> str:
    script = Path(str(start.get("cwd", "")), words[1]) if len(words) > 1 else Path()
    if script.name != "run.py":
        return "it is no recipe's run.py"
    if start.get("masked"):
        return "it has secrets, which were not recorded"
    if not start.get("resume", True):
        return "with `resume: false` it would start over; leave that out"
    if not script.is_file():
        return f"{script} is not there"
    if (run_dir / EVENTS).stat().st_uid != os.getuid():
        return "it was recorded by another user"
    return ""
