"""``espnet3 new``: a recipe to begin with."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("new", short_help="Write a recipe to begin with.")
@click.argument("name", required=False, metavar="CORPUS/TASK")
@click.option(
    "--from-kaldi",
    "data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Write one that decodes this Kaldi data directory.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write; default: egs3/CORPUS/TASK where egs3 is, else CORPUS/TASK; for a Kaldi "
    "directory, decode_ and its name.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
def command(name: str | None, data: Path | None, out: Path | None, overwrite: bool) -> None:
    """Write a whole recipe that runs at once, on data that it makes up: the place to begin.

    What is yours to replace is marked TODO. With --from-kaldi the data are those of a Kaldi data
    directory, which is read where it is, and the model is a placeholder.
    """
    from espnet3.errors import ESPnet3Error
    from espnet3.skeleton.fill import write_files
    from espnet3.skeleton.new import from_kaldi, new_recipe

    if (name is None) == (data is None):
        raise click.UsageError("name one of CORPUS/TASK and --from-kaldi DIR")
    try:
        if data is not None:
            out = out or Path(f"decode_{data.resolve().name}")
            skeleton = from_kaldi(data, out)
        else:
            out = out or (Path("egs3") if Path("egs3").is_dir() else Path()) / str(name)
            skeleton = new_recipe(str(name), out)
        written = write_files(skeleton.files, out, overwrite)
    except ESPnet3Error as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"nothing more could be written: {error}") from error
    for path in written:
        click.echo(f"wrote {path}")
    for remark in skeleton.remarks:
        click.echo(f"note: {remark}")
    click.echo(f"\nTo run it:\n\n{skeleton.command}")
