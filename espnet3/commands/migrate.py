"""``espnet3 migrate``: an ESPnet2 recipe's settings, carried over."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("migrate", short_help="Carry over the settings of an ESPnet2 recipe.")
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write; default: migrated/ inside the recipe.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@click.option("--explain", "word", metavar="WORD", help="Say what replaces a word of ESPnet2.")
def command(recipe: Path | None, out: Path | None, overwrite: bool, word: str | None) -> None:
    """Read RECIPE's scripts and configs, and write conf/, dataset/ and MIGRATION.md.

    RECIPE is the directory of an ESPnet2 recipe, such as egs2/an4/asr1. Nothing in it is run or
    changed. MIGRATION.md lists each setting, its file and line, where it went, and what you must
    decide. The status is 0 if all was written, whether or not something is left to decide.

    With --explain nothing is read: it says what replaces nj, train_cmd, queue.pl and their like.
    """
    from espnet3.errors import ConfigError
    from espnet3.migrate.explain import explain

    if word is None and recipe is None:
        raise click.UsageError("name the directory of a recipe, or --explain WORD")
    if word is not None and recipe is not None:
        raise click.UsageError("--explain WORD takes no recipe")
    try:
        if word is not None:
            click.echo(explain(word))
        elif recipe is not None:
            _migrate(recipe, out or recipe / "migrated", overwrite)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"nothing more could be written: {error}") from error


def _migrate(recipe: Path, out: Path, overwrite: bool) -> None:
    from espnet3.migrate.findings import Fate
    from espnet3.migrate.recipe import migrate
    from espnet3.migrate.write import write

    done = migrate(recipe)
    for path in write(done, out, overwrite):
        click.echo(f"wrote {path}")
    for finding in done.findings:
        if finding.fate in (Fate.PROBLEM, Fate.UNMAPPED):
            click.echo(f"{finding.place}: {finding.setting}: {finding.went_to}")
    n = sum(bool(finding.decide) for finding in done.findings)
    n += sum(map(len, done.decisions.values())) + sum(map(len, done.runs.decisions.values()))
    click.echo(f"to decide: {n}; see {out / 'MIGRATION.md'}")
