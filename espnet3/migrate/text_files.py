"""Reading the recipe's files, whatever is in them."""

from __future__ import annotations

from pathlib import Path

from espnet3.migrate.findings import Finding, Place, problem

MOST_BYTES = 1_000_000
"""Configs and scripts are smaller; what is larger is something else."""


def read_text(recipe: Path, name: str) -> tuple[str | None, list[Finding]]:
    """A text file of the recipe.

    Args:
        recipe: the recipe's directory.
        name: the file's name, relative to it.

    Returns:
        The text, or None if there is no such file or it is no text, and then a finding says why;
        of a file that is merely missing there is none.
    """
    path, place = recipe / name, Place(name)
    try:
        if not path.exists() and not path.is_symlink():
            return None, []
        if not path.is_file():
            kind = "a link to nothing" if path.is_symlink() and not path.exists() else "no file"
            return None, [problem(place, name, f"it is {kind}")]
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            return None, [problem(place, name, f"it has more than {MOST_BYTES} bytes")]
        if b"\0" in data:
            return None, [problem(place, name, "it is a binary file")]
        return data.decode("utf-8-sig").replace("\r\n", "\n"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, [problem(Place(name, line), name, "it is not UTF-8 text")]
    except (OSError, ValueError) as error:
        return None, [problem(place, name, f"it cannot be read: {error}")]
