"""The part of ``MIGRATION.md`` about data preparation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from espnet3.migrate.data.preparation import Preparation
from espnet3.parallel.wording import printable

_MOST_CHARACTERS = 160


def data_sections(done: Preparation) -> str:
    """The sections, in Markdown."""
    return "\n".join((_written(done), _steps(done), _jobs(done)))


def _written(done: Preparation) -> str:
    text = "## Data sets\n\n"
    if done.existing:
        text += (
            f"`dataset/dataset.py` reads what ESPnet2 has made: {', '.join(done.existing)}. "
            "Relative paths in these directories count from where `run.py` is started.\n"
        )
    else:
        text += (
            "`dataset/dataset.py` reads Kaldi data directories below `data/`. A config names one "
            "with `data_src_args: {split: NAME}`.\n"
        )
    n, left = len(done.downloads.targets), len(done.downloads.todo)
    text += (
        f"\nFiles that `dataset/builder.py` downloads: {n}; "
        f"unpacks: {len(done.downloads.archives)}; places marked `TODO`: {left}. "
        "Each archive is unpacked into "
        "`data/source/<name of the archive>/`. `build` is yours to write.\n"
    )
    return text


def _steps(done: Preparation) -> str:
    head = "## Data preparation\n\n"
    steps = done.steps.steps
    if not steps:
        return head + "Nothing was found.\n"
    counts = Counter(step.kind.value for step in steps)
    text = head + f"Read: {', '.join(f'`{_cell(file)}`' for file in done.steps.files)}.\n\n"
    text += f"{', '.join(f'{kind}: {n}' for kind, n in counts.most_common())}.\n"
    text += (
        f"{done.steps.n_housekeeping} more lines only make directories, check arguments or print, "
        "and are not listed. Python and Perl scripts are looked through for words alone.\n\n"
    )
    rows = [
        (str(step.place), _code(step.text), step.kind.value, step.replaced_by, step.loop)
        for step in steps
    ]
    names = ("where", "what stands there", "what it is", "what does it here", "inside of")
    return text + _table(names, [(*row[:4], _code(row[4]) if row[4] else "") for row in rows])


def _jobs(done: Preparation) -> str:
    head = "## Lists split into jobs\n\n"
    if not done.jobs:
        return head + "No `JOB=1:N` and no `split_scp.pl` was found in the recipe's own scripts.\n"
    rows = [(str(job.place), _code(job.text), job.replaced_by) for job in done.jobs]
    return head + _table(("where", "what stands there", "what does it here"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(_cell(one) for one in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return printable(" ".join(text.split())).replace("|", "\\|").replace("\\\\|", "\\|")


def _code(text: str) -> str:
    text = " ".join(text.split())
    if len(text) > _MOST_CHARACTERS:
        text = text[: _MOST_CHARACTERS - 3] + "..."
    return f"`` {text} ``" if "`" in text else f"`{text}`"
