"""``espnet3 clean``: the shards of finished runs away."""

from __future__ import annotations

from pathlib import Path

import click

from espnet3.commands.runs_below import DIRECTORY, runs_below, told


@click.command("clean", short_help="Remove the shards of finished runs.")
@DIRECTORY
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(directory: Path, yes: bool) -> None:
    """Remove the shards of the finished run in DIR, or of those below DIR.

    What was merged stays, with ledger and logs. The run is known as finished from then on: the same
    command does nothing there. What can only be made from shards (to merge once more, unit times in
    a report) is gone. A run that is not finished is left as it is, and the status is 1 then.
    """
    from espnet3.errors import DataError, RunInUse
    from espnet3.runs import clean

    run_dirs = runs_below(directory)
    if not yes:
        what = "the run" if len(run_dirs) == 1 else f"{len(run_dirs)} runs"
        click.confirm(f"Remove the shards of {what} in {directory}?", abort=True)
    refused: list[Exception] = []
    with told():
        for run_dir in run_dirs:
            try:
                click.echo(f"{run_dir}: removed {clean(run_dir)} shards")
            except (DataError, RunInUse) as error:
                refused.append(error)
    if refused:
        raise click.ClickException("\n".join(map(str, refused)))
