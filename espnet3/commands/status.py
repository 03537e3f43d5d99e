"""``espnet3 status``: how a run stands."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from espnet3.commands.runs_below import DIRECTORY, runs_below, told

if TYPE_CHECKING:
    from espnet3.runs import Snapshot

DISK_EVERY = 60.0  # seconds between two counts of files, while watching


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
        with told():
            seen = [reader.look(disk=disk) for reader in readers]
        _show(seen, as_json, n_workers, clear=watch)
        if not (watch and any(each.is_live for each in seen)):
            return
        time.sleep(every)


def _show(seen: list[Snapshot], as_json: bool, n_workers: int, clear: bool) -> None:
    from espnet3.runs import describe

    if as_json:
        for each in seen:
            click.echo(json.dumps(each.as_dict(), default=str))
        return
    text = "\n".join(describe(each, n_workers) for each in seen)
    if clear:
        click.clear()  # of a terminal alone
    click.echo(text)
