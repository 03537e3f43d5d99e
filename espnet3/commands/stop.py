"""``espnet3 stop``: let a run end in good order."""

from __future__ import annotations

from pathlib import Path

import click

from espnet3.commands.runs_below import DIRECTORY, runs_below, told


@click.command("stop", short_help="Let a run commit what is in hand, and end.")
@DIRECTORY
def command(directory: Path) -> None:
    """Ask the driver of the run in DIR, or of those below DIR, to stop.

    It goes as with Ctrl-C: items in hand are finished and committed, then the driver ends, with
    status 143. From its own host it is sent SIGTERM; from another one it finds a request at its
    next heartbeat, within a minute. The status is 0 if a driver was asked; this does not wait for
    its end (`espnet3 status DIR --watch` does).
    """
    from espnet3.runs import snapshot, stop

    with told():
        live = [run_dir for run_dir in runs_below(directory) if snapshot(run_dir, disk=False).owner]
        if not live:
            raise click.ClickException(f"no driver is at work in {directory}")
        for run_dir in live:
            asked = stop(run_dir)
            how = "asked" if asked.by_signal else "left a request for"
            click.echo(f"{run_dir}: {how} pid {asked.pid} on {asked.host} to stop")
