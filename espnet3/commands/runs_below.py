"""What the commands about runs have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

DIRECTORY = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


def runs_below(directory: Path) -> list[Path]:
    """The runs at or below a directory that the user names.

    Raises:
        click.ClickException: there is none.
    """
    from espnet3.runs import find_runs

    with told():
        found = find_runs(directory)
    if not found:
        raise click.ClickException(
            f"no run in {directory}, nor below it; a run directory has a manifest.json"
        )
    return found


@contextmanager
def told() -> Iterator[None]:
    """Tell what is refused in a `with` block in one sentence, with status 1."""
    from espnet3.errors import ESPnet3Error

    try:
        yield
    except (ESPnet3Error, OSError) as error:
        raise click.ClickException(str(error)) from error
