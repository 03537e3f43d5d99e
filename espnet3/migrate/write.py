"""Writing what a migration has made."""

from __future__ import annotations

from pathlib import Path

from espnet3.errors import ConfigError
from espnet3.migrate.recipe import Migration
from espnet3.migrate.report import NAME, report


def write(done: Migration, out: Path, overwrite: bool) -> list[Path]:
    """Write the files of a migration and its report.

    Args:
        done: the migration.
        out: the directory to write to; it is made.
        overwrite: whether files that are there may be replaced.

    Returns:
        What was written.

    Raises:
        ConfigError: if one of the files is there already and may not be replaced; then none is
            written.
        OSError: if one cannot be written.
    """
    texts = {**done.files, NAME: report(done)}
    there = [name for name in texts if (out / name).exists() or (out / name).is_symlink()]
    if there and not overwrite:
        raise ConfigError(
            f"{out} has {', '.join(there)} already; name another directory with --out, or replace "
            "them with --overwrite"
        )
    written = []
    for name, text in texts.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
