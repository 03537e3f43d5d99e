"""``espnet3 retry``: failed items once more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from espnet3.commands.runs_below import DIRECTORY, runs_below, told

if TYPE_CHECKING:
    from espnet3.runs.retry import Command


@click.command("retry", short_help="Clear the marks of failed items, and run again.")
@DIRECTORY
@click.option("--item", metavar="UTT", help="This one alone, by its name or as '#position'.")
@click.option("--print", "only_print", is_flag=True, help="Run nothing, only tell the command.")
def command(directory: Path, item: str | None, only_print: bool) -> None:
    """Let the failed items of the run in DIR, or of those below DIR, be done again.

    The next start tries failed items again anyway, but not those that killed `max_kills` workers:
    these too, after this. A run that a driver has is refused.

    Then the command of the last start is given again where it was given, if it was a recipe's
    `run.py`, and else printed.
    """
    from espnet3.errors import DataError
    from espnet3.runs import clear_failures, last_command, snapshot

    commands: dict[str, Command] = {}
    with told():
        run_dirs = [
            run_dir for run_dir in runs_below(directory) if snapshot(run_dir, disk=False).failed
        ]
        if not run_dirs:
            raise click.ClickException(f"nothing has failed in {directory}")
        cleared = 0
        for run_dir in run_dirs:
            try:
                names = clear_failures(run_dir, item)
            except DataError:
                if run_dir == run_dirs[-1] and not cleared:
                    raise
                continue
            cleared += len(names)
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" * (len(names) > 5))
            click.echo(f"{run_dir}: to be done again: {shown}")
            if (given := last_command(run_dir)) is not None:
                commands[str(given)] = given
    _go_on(list(commands.values()), only_print)


def _go_on(commands: list[Command], only_print: bool) -> None:
    if len(commands) == 1 and not commands[0].refusal and not only_print:
        click.echo(f"running: {commands[0]}")
        os.chdir(commands[0].working_directory)
        os.execv(commands[0].python, list(commands[0].words))
    if not commands:
        click.echo("Now give the command again that you gave before.")
    for given in commands:
        why = f"   # {given.refusal}" if given.refusal else ""
        click.echo(f"Now run: {given}{why}")
