"""Command line: ``python -m benchmarks [names] [--repeats N] [--quick] [--out FILE]``."""

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks import machine
from benchmarks.measure import MeasurementFailed, Options, Table

NAMES = (
    "imports",
    "small",
    "throughput",
    "planning",
    "padding",
    "durability",
    "balance",
    "recovery",
    "what_happens",
    "killed",
    "many_workers",
    "speech",
    "transfers",
    "prepare",
    "statistics",
    "loading_ahead",
    "writing_behind",
)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1), help="Rounds.")
@click.option("--quick", is_flag=True, help="Small sizes and one round, to see that it works.")
@click.option(
    "--out",
    "outs",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures here as well: .json with every value, .md as shown. May be repeated.",
)
def main(names: tuple[str, ...], repeats: int, quick: bool, outs: tuple[Path, ...]) -> None:
    """Measure espnet3 beside what one would use instead; all benchmarks, or the NAMES given."""
    for out in outs:
        if out.suffix not in (".json", ".md"):
            raise click.BadParameter(f"{out} ends neither in .json nor in .md", param_hint="--out")
    with TemporaryDirectory(prefix="benchmarks.") as directory:
        options = Options(1 if quick else repeats, quick, Path(directory))
        facts = machine.describe(options.directory)
        _show(_header(facts, options))
        results: dict[str, list[Table]] = {}
        failed = []
        for name in dict.fromkeys(names or NAMES):
            try:
                results[name] = _run(name, options)
            except MeasurementFailed as error:
                failed.append(name)
                click.echo(f"{name} failed: {error}", err=True)
    for out in outs:
        out.write_text(_as_text(out.suffix, facts, options, results), encoding="utf-8")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _run(name: str, options: Options) -> list[Table]:
    module = importlib.import_module(f"benchmarks.{name}")
    click.echo(f"{name} ...", err=True)
    with TemporaryDirectory(dir=options.directory) as directory:
        tables: list[Table] = module.run(replace(options, directory=Path(directory)))
    _show(_section(name, tables))
    return tables


def _header(facts: dict[str, str], options: Options) -> str:
    size = ", quick: for correctness, not for quoting" if options.quick else ""
    rows = [f"- {key}: {value}" for key, value in facts.items()]
    return "\n".join(
        ["# Figures", "", f"Rounds: {options.repeats}; medians (lowest-highest){size}.", "", *rows]
    )


def _section(name: str, tables: Sequence[Table]) -> str:
    return "\n".join([f"\n## {name}", *(f"\n{table.as_markdown()}" for table in tables)])


def _show(text: str) -> None:
    click.echo(text)


def _as_text(
    suffix: str, facts: dict[str, str], options: Options, results: dict[str, list[Table]]
) -> str:
    if suffix == ".md":
        sections = [_section(name, tables) for name, tables in results.items()]
        return "\n".join([_header(facts, options), *sections]) + "\n"
    data: dict[str, Any] = {"machine": facts, "repeats": options.repeats, "quick": options.quick}
    data["benchmarks"] = {n: [t.as_data() for t in tables] for n, tables in results.items()}
    return json.dumps(data, indent=1) + "\n"


if __name__ == "__main__":
    main()
