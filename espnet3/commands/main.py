"""``espnet3 COMMAND``: finds the command's module, and starts fast."""

from __future__ import annotations

import importlib

import click

import espnet3

COMMANDS = (
    "clean",
    "doctor",
    "logs",
    "migrate",
    "new",
    "plan",
    "report",
    "retry",
    "status",
    "stop",
)
"""Modules of this package. Each has a `command`, and imports what is slow in its function."""


class _Commands(click.Group):
    """Loads a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Called by click."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Called by click."""
        if name not in COMMANDS:
            return None
        command = importlib.import_module(f"espnet3.commands.{name}").command
        return command if isinstance(command, click.Command) else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(espnet3.__version__, prog_name="espnet3")
def main() -> None:
    """Tools for recipes of espnet3 and for their runs."""
