"""``dataset/builder.py``: what was found as calls of the ready-made steps, and what is left."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from espnet3.migrate.data.downloads import Downloads, Target, Todo
from espnet3.parallel.wording import printable
from espnet3.skeleton.recipe import python_string

_TEXT = '''\
"""From the sources of the corpus to Kaldi data directories in ``data/``.

Begun by `espnet3 migrate`; MIGRATION.md says what local/data.sh did, line by line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espnet3.components.data.build_record import BuildRecord
from espnet3.components.data.dataset_builder import DatasetBuilder
{imports}from espnet3.errors import DataError
{local}
{constants}

class CorpusBuilder(DatasetBuilder):
    """Builds everything below ``<recipe_dir>/data``; every method takes ``recipe_dir``."""

    def is_source_prepared(self, recipe_dir: str | Path, **_: Any) -> bool:
        """Tell whether the corpus is there."""
        return {is_prepared}

    def prepare_source(self, recipe_dir: str | Path, **_: Any) -> None:
        """{prepares}"""
{prepare}

    def is_built(self, recipe_dir: str | Path, **_: Any) -> bool:
        """Tell whether the data directories are complete."""
        return {is_built}

    def build(self, recipe_dir: str | Path, **_: Any) -> None:
        """Write the data directories, and a `BuildRecord` last."""
        # TODO: what local/data.sh did behind the downloads; see "Data preparation" in MIGRATION.md.
        # record = BuildRecord(Path(recipe_dir) / "data"); record.clear(); ...; record.write(files)
        raise DataError("dataset/builder.py: build is not written yet; see MIGRATION.md")
'''
_NO_SOURCE = """\
        raise DataError(
            f"{Path(recipe_dir) / SOURCE} is missing: put the corpus there, or correct SOURCE"
        )"""


def builder_file(found: Downloads, existing: Sequence[str]) -> str:
    """The text of the file.

    Args:
        found: what the recipe downloads and unpacks.
        existing: the data directories that are there already.
    """
    text = _TEXT.format(
        imports=_imports(found),
        local="\nfrom .dataset import DATA\n" if existing else "",
        constants=_constants(found, existing),
        is_prepared=_is_prepared(found),
        prepares="Fetch what local/data.sh fetched." if found.targets else "Not written.",
        prepare=_prepare(found) if found.targets else _NO_SOURCE,
        is_built=(
            "all((DATA / name).is_dir() for name in SETS)"
            if existing
            else 'BuildRecord(Path(recipe_dir) / "data").is_complete()'
        ),
    )
    if existing and not found.targets:
        text = text.replace("from espnet3.components.data.build_record import BuildRecord\n", "", 1)
    return text


def _imports(found: Downloads) -> str:
    names = ["download"] * bool(found.targets) + ["extract"] * bool(found.archives)
    return "".join(f"from espnet3.components.data.{name} import {name}\n" for name in names)


def _constants(found: Downloads, existing: Sequence[str]) -> str:
    lines = []
    if found.targets:
        lines.append('DOWNLOADS = Path("downloads")')
    if found.archives or not found.targets:
        lines.append('SOURCE = Path("data/source")')
    if found.targets:
        lines.append("TARGETS = [")
        for target in found.targets:
            lines += _target(target)
        lines.append("]")
    if found.archives:
        lines += ["ARCHIVES = [", *(f"    {python_string(name)}," for name in found.archives), "]"]
        lines.append('"""Those that are unpacked, each into a directory of its own name."""')
    if existing:
        lines += ["SETS = [", *(f"    {python_string(name)}," for name in existing), "]"]
    lines += [line for todo in found.todo for line in _todo(todo)]
    return "\n".join(map(_perhaps_long, lines)) + "\n"


def _perhaps_long(line: str) -> str:
    """A line that is allowed to be too long; addresses, comments and single words always are."""
    one_word = " " not in line.strip()
    excused = len(line) <= 100 or one_word or "://" in line or line.lstrip().startswith("#")
    return line if excused else f"{line}  # noqa: E501"


def _target(target: Target) -> list[str]:
    url, path = python_string(target.url), python_string(target.path)
    lines = _comment(str(target.place), "    ")
    for other, place in target.others:
        lines += _comment(f"TODO {place}: or is it this one? {other}", "    ")
    one = f'    {{"url": {url}, "path": {path}}},'
    if len(one) <= 100:
        return [*lines, one]
    return [*lines, "    {", f'        "url": {url},', f'        "path": {path},', "    },"]


def _todo(todo: Todo) -> list[str]:
    return [*_comment(f"TODO {todo.place}: {todo.text}"), *_comment(f"  {todo.why}")]


def _comment(text: str, indent: str = "") -> list[str]:
    """A comment of lines that are as long as a recipe's may be, if its words allow that."""
    lines = textwrap.wrap(
        printable(text), 96 - len(indent), subsequent_indent="    ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return [f"{indent}# {line}" for line in lines]


def _is_prepared(found: Downloads) -> str:
    if found.targets:
        return 'BuildRecord(Path(recipe_dir) / DOWNLOADS, {"targets": TARGETS}).is_complete()'
    return "(Path(recipe_dir) / SOURCE).is_dir()"


def _prepare(found: Downloads) -> str:
    lines = [
        'record = BuildRecord(Path(recipe_dir) / DOWNLOADS, {"targets": TARGETS})',
        "files = download(TARGETS, record.directory)",
    ]
    if found.archives:
        lines.append(
            "extract([file for file in files if file.name in ARCHIVES], Path(recipe_dir) / SOURCE)"
        )
    lines.append("record.write(files)")
    return "\n".join(f"        {line}" for line in lines)
