"""``espnet3 logs``: what workers said, and why items failed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from espnet3.commands.runs_below import DIRECTORY, runs_below, told


@click.command("logs", short_help="What workers said, and why items failed.")
@DIRECTORY
@click.option("--item", metavar="UTT", help="All about one item, by its name or as '#position'.")
@click.option("--worker", metavar="N", help="All that this worker said.")
@click.option("--failed", is_flag=True, help="The traceback of each item that failed.")
def command(directory: Path, item: str | None, worker: str | None, failed: bool) -> None:
    """Show logs of the run in DIR, or of those below DIR; without an option, which there are."""
    from espnet3.errors import DataError

    if sum((item is not None, worker is not None, failed)) > 1:
        raise click.UsageError("--item, --worker and --failed exclude each other")
    run_dirs = runs_below(directory)
    refused: list[DataError] = []
    with told():
        for run_dir in run_dirs:
            try:
                _show(run_dir, item, worker, failed)
            except DataError as error:  # perhaps another of the runs knows it
                refused.append(error)
        if len(refused) == len(run_dirs):
            raise refused[0]


def _show(run_dir: Path, item: str | None, worker: str | None, failed: bool) -> None:
    from espnet3.runs import item_log, log_files, still_failed, worker_log
    from espnet3.runs.logs import told as told_of

    if item is not None:
        click.echo(item_log(run_dir, item))
    elif worker is not None:
        with worker_log(run_dir, worker).open(errors="replace") as log:
            shutil.copyfileobj(log, sys.stdout)
    elif failed:
        for attempt in still_failed(run_dir):
            click.echo(f"{told_of(attempt)}\n")
    else:
        for path in log_files(run_dir):
            click.echo(f"{path}  {path.stat().st_size} bytes")
