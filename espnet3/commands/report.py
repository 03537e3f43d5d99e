"""``espnet3 report``: a page about runs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report", short_help="Write an HTML page about a run.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; default: report.html in DIRECTORY.",
)
def command(directory: Path, out: Path | None) -> None:
    """Write one HTML page about the run in DIRECTORY, or about all runs below it.

    It says whether it is done, what failed and why, how long it took, how busy the workers were and
    what to do, with charts of all that. It needs no other file and no network. The run may be live,
    on any host that sees its directory; it is not touched.

    DIRECTORY is a run's own (of infer: <inference_dir>/<test set>) or what holds several.
    """
    from espnet3.errors import ConfigError
    from espnet3.report import write_report

    try:
        click.echo(f"wrote {write_report(directory, out)}")
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"the report cannot be written: {error}; --out FILE writes it elsewhere"
        ) from error
