"""One self-contained HTML page about one or several runs; see `write_report`."""

from __future__ import annotations

import os
from pathlib import Path

from espnet3.errors import ConfigError

FILE = "report.html"

__all__ = ["write_report"]


def write_report(
    directory: str | os.PathLike[str], out: str | os.PathLike[str] | None = None
) -> Path:
    """Write a page about the runs at or below a directory, live, finished or dead.

    Nothing is locked, and nothing changed but the page.

    Args:
        directory: a run directory, or what holds some, such as infer's ``inference_dir``.
        out: the file to write; ``report.html`` in that directory if left out.

    Returns:
        The path of the page, which needs no other file and no network.

    Raises:
        ConfigError: there is no run, or the package that draws is not installed.
        OSError: the page cannot be written.
    """
    from espnet3.report.measured import find_measured
    from espnet3.report.read import read_run
    from espnet3.runs import find_runs
    from espnet3.utils import durable

    _check_bokeh()
    from espnet3.report.page import render

    top = Path(directory).absolute()
    if not top.is_dir():
        raise ConfigError(f"there is no directory {top}")
    run_dirs = find_runs(top)
    if not run_dirs:
        raise ConfigError(
            f"there is no run in {top}, nor a few levels below it: a run's directory has a "
            "manifest.json"
        )
    runs = [
        read_run(path, path.name if path == top else str(path.relative_to(top)))
        for path in run_dirs
    ]
    page = render(top.name, str(top), runs, find_measured(run_dirs, runs))
    path = top / FILE if out is None else Path(out)
    # An id may hold half a character, as names of files do; the page shows it as what it is.
    durable.replace(path, page.encode("utf-8", "backslashreplace"))
    return path


def _check_bokeh() -> None:
    try:
        import bokeh  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"a report needs the package bokeh ({error}): pip install 'espnet3[report]'"
        ) from error
