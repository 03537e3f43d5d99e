"""``MIGRATION.md``: each old setting, where it was, where it went, and what must be decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from espnet3.migrate.data.report import data_sections
from espnet3.migrate.findings import Fate, Finding
from espnet3.migrate.recipe import Migration
from espnet3.parallel.wording import first_line

NAME = "MIGRATION.md"
_NOT_READ = """\
## Not read

Only the cluster set-up was (`cmd.sh`, the configs of its commands, `.queue/machines`), and data
preparation. `run.sh` (`nj`, `inference_nj`, `gpu_inference`, `ngpu`), the defaults of the task
script, decode configs and training configs were not read. Write their part into
`conf/inference.yaml` and `conf/metrics.yaml` yourself.
"""
_ORDER = (
    Fate.PROBLEM,
    Fate.UNMAPPED,
    Fate.MAPPED,
    Fate.NEEDLESS,
    Fate.UNUSED,
)


def report(done: Migration) -> str:
    """The whole file, in Markdown."""
    parts = [
        f"# Migration of the cluster set-up of {_plain(done.recipe.resolve().name)}\n",
        _files(done),
        _decisions(done),
        *([data_sections(done.preparation)] if done.preparation else []),
        _settings(done.findings),
        _NOT_READ,
    ]
    return "\n".join(parts)


def _files(done: Migration) -> str:
    if not done.about:
        return "Nothing was written: no command was found that could be carried over.\n"
    rows = [(_code(file), _plain(about)) for file, about in done.about.items()]
    which = "Lay one of them over a config: `--inference_config conf/inference.yaml FILE`.\n"
    if done.chosen:
        which += f"\n`cmd.sh` has `cmd_backend={_plain(done.chosen)}`.\n"
    return which + "\n" + _table(("file", "instead of"), rows)


def _decisions(done: Migration) -> str:
    """One line for each thing to decide, with the files that it is about."""
    asked: dict[tuple[str, str], list[str]] = {}
    for file, keys in done.decisions.items():
        for key, why in keys.items():
            asked.setdefault((f"`parallel.{key}`", why), []).append(file)
    for finding in done.findings:
        if finding.decide:
            what = f"{_code(finding.setting)} ({finding.place})"
            asked.setdefault((what, finding.decide), []).extend(finding.files)
    if not asked:
        return "## What you must decide\n\nNothing.\n"
    lines = []
    for (what, why), files in asked.items():
        where = f" (in {', '.join(_code(file) for file in dict.fromkeys(files))})" if files else ""
        lines.append(f"- {what}: {_plain(why)}{where}\n")
    return "## What you must decide\n\n" + "".join(lines)


def _settings(findings: Sequence[Finding]) -> str:
    rows = []
    for fate in _ORDER:
        for finding in findings:
            if finding.fate is fate:
                rows.append(
                    (
                        _code(finding.setting),
                        _plain(str(finding.place)),
                        fate.value,
                        _plain(finding.went_to),
                        ", ".join(_code(file) for file in finding.files),
                        _plain(finding.decide),
                    )
                )
    head = ("old setting", "where", "what became of it", "where it went, or why not")
    return "## Every setting\n\n" + _table((*head, "files", "to decide"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _plain(text: str) -> str:
    """A text in a cell."""
    return first_line(text).replace("|", "\\|") if text else ""


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    space = " " if "`" in text else ""
    return f"{fence}{space}{_plain(text)}{space}{fence}"
