"""Writing what a migration has made."""

from __future__ import annotations

from pathlib import Path

from espnet3.migrate.recipe import Migration
from espnet3.migrate.report import NAME, report
from espnet3.skeleton.fill import write_files


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
    return write_files({**done.files, NAME: report(done)}, out, overwrite)
