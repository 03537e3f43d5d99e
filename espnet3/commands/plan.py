"""``espnet3 plan``: what the recipe's ``run.py`` would do with the same words."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command(
    "plan", context_settings={"ignore_unknown_options": True}, short_help="Look before you leap."
)
@click.option("--canary", is_flag=True, help="Try one item on a real worker of the backend.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[WORDS OF run.py]...")
def command(canary: bool, words: tuple[str, ...]) -> None:
    """Show what `python run.py WORDS` would do in this directory, and do nothing.

    It is `python run.py WORDS --dry_run`: every stage and config, and for infer what is done, what
    is left, how long it will take as far as that is known, and the job script as it would be
    submitted. The status is 0 if nothing speaks against running it.

    With --canary it is `python run.py WORDS --canary`: the env is built and one item is done on one
    real worker, in a directory of its own. The status is 0 if that went well.
    """
    if not Path("run.py").is_file():
        raise click.UsageError(f"there is no run.py in {Path.cwd()}; go to the recipe's directory")
    how = "--canary" if canary else "--dry_run"
    sys.stdout.flush()
    # Not imported: in a process of its own it is the main program, as workers expect it to be.
    os.execv(sys.executable, [sys.executable, "run.py", *words, how])
