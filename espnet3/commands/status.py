"""``espnet3 status``: how a run stands."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from espnet3.commands.runs_below import DIRECTORY, runs_below

if TYPE_CHECKING:
    from espnet3.runs import RunReader, Snapshot

DISK_EVERY = 60.0  # seconds between two counts of files, while watching
LOOKING = 5  # times as long as a look took, it rests: that of a huge run takes a second


@click.command("status", short_help="How a run stands, live or after the fact.")
@DIRECTORY
@click.option("--watch", is_flag=True, help="Look again and again, until no driver is at work.")
@click.option("--every", type=click.FloatRange(0.1), default=2.0, help="Seconds between looks.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each run and look.")
@click.option("--workers", "n_workers", type=int, default=20, show_default=True, help="To name.")
def command(directory: Path, watch: bool, every: float, as_json: bool, n_workers: int) -> None:
    """Show how the run in DIR stands, or each run below DIR.

    It reads the run directory alone, on any host that sees it, and changes nothing. The status is 0
    whatever the state is; 1 if there is no run, or its files are damaged.
    """
    from espnet3.runs import RunReader

    readers = [RunReader(run_dir) for run_dir in runs_below(directory)]
    counted = 0.0
    while True:
        disk = not counted or time.monotonic() - counted > DISK_EVERY
        if disk:
            counted = time.monotonic()
        began = time.monotonic()
        seen = [_look(reader, disk) for reader in readers]
        text = "\n".join(_told(each, as_json, n_workers) for each in seen)
        goes_on = watch and any(not isinstance(run, _Unreadable) and run.is_live for run in seen)
        drawn = watch and not as_json and _on_terminal()
        click.echo(_over_the_last(text, not goes_on) if drawn else text, nl=not drawn)
        if not goes_on:
            break
        time.sleep(max(every, LOOKING * (time.monotonic() - began)))
    if any(isinstance(each, _Unreadable) for each in seen):
        raise click.exceptions.Exit(1)


def _on_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _over_the_last(text: str, whole: bool) -> str:
    """From the top left, each line to its end, then nothing: a cleared screen would flicker.

    What does not fit is left out, unless it is to be shown whole: it would roll the screen.
    """
    lines = text.split("\n")
    if not whole:
        columns, rows = shutil.get_terminal_size()
        lines = [line[: columns - 1] for line in lines[: rows - 1]]
    return "\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J"


@dataclass(frozen=True)
class _Unreadable:
    """A run that cannot be looked at, and why; the others can."""

    run_dir: Path
    error: str


def _look(reader: RunReader, disk: bool) -> Snapshot | _Unreadable:
    from espnet3.errors import ESPnet3Error

    try:
        return reader.look(disk=disk)
    except (ESPnet3Error, OSError) as error:
        return _Unreadable(reader.run_dir, str(error))


def _told(seen: Snapshot | _Unreadable, as_json: bool, n_workers: int) -> str:
    from espnet3.runs import describe

    if isinstance(seen, _Unreadable):
        told = {"run_dir": str(seen.run_dir), "error": seen.error}
        return json.dumps(told) if as_json else f"{seen.run_dir}: {seen.error}"
    return json.dumps(seen.as_dict(), default=str) if as_json else describe(seen, n_workers)
