"""The documentation: links resolve, marked programs run, key tables agree with the code.

Conventions (see CONTRIBUTING.md), each a comment right before a fenced block or a table:
``<!-- file: name -->`` puts a file there, ``<!-- run: name.py -->`` runs a script,
``<!-- shell -->`` runs commands, ``<!-- prints -->`` is what the last program printed,
``<!-- keys: Class -->`` the table of a config dataclass, ``<!-- backend: env -->`` a ``parallel:``
block of that env, ``<!-- needs: package -->`` says what a page's programs cannot do without.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from espnet3.commands import main
from espnet3.parallel import config
from espnet3.parallel.config_check import ENVS, RULES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
MARKED = re.compile(
    r"^<!-- (?P<what>file|run|shell|prints)(?:: (?P<name>\S+))? -->\n```\w*\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("name", NAMES)
def test_links_resolve(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name}: {target} is not there"
        if fragment:
            headings = re.findall(r"^#+ (.+)$", FENCE.sub("", file.read_text()), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{name}: {target}: no such heading"


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = [page for entry in nav for page in entry.values()]
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def has_programs(name: str) -> bool:
    return any(b["what"] in ("run", "shell") for b in MARKED.finditer((ROOT / name).read_text()))


@pytest.mark.parametrize("name", [name for name in NAMES if has_programs(name)])
def test_marked_programs_run(name: str, tmp_path: Path) -> None:
    here = Path(sys.executable).parent  # commands say `python`
    path = os.pathsep.join([str(here), os.environ.get("PATH", os.defpath)])
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
    for package in re.findall(r"^<!-- needs: (\S+) -->$", (ROOT / name).read_text(), re.MULTILINE):
        pytest.importorskip(package)
    printed = ""
    for block in MARKED.finditer((ROOT / name).read_text()):
        if block["what"] == "prints":
            assert printed == block["body"]
            continue
        if block["name"]:
            (tmp_path / block["name"]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block["name"]).write_text(block["body"])
        if block["what"] == "file":
            continue
        by_name = [sys.executable, block["name"]]
        done = subprocess.run(
            by_name if block["what"] == "run" else ["sh", "-ec", block["body"]],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed = done.stdout


CODE = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_code_are_such(name: str) -> None:
    for block in CODE.finditer((ROOT / name).read_text()):
        if block["language"] == "python":
            ast.parse(block["body"])
        elif block["language"] in ("yaml", "json"):
            yaml.safe_load(block["body"])


BLOCKS_OF_BACKENDS = [
    (name, block["env"], block["body"])
    for name in NAMES
    for block in re.finditer(
        r"^<!-- backend: (?P<env>\w+) -->\n```yaml\n(?P<body>.*?)^```$",
        (ROOT / name).read_text(),
        re.MULTILINE | re.DOTALL,
    )
]


@pytest.mark.parametrize(("name", "env", "text"), BLOCKS_OF_BACKENDS)
def test_blocks_of_backends_are_complete(
    name: str, env: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, and with what is commented out as well."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "pod.yaml").write_text("spec: {containers: [{name: worker}]}\n")
    for body in (text, re.sub(r"^( *)# (\w+: )", r"\1\2", text, flags=re.MULTILINE)):
        block = yaml.safe_load(body)["parallel"]
        parallel, _ = config.parse_parallel(block, None, name)
        assert parallel.env == env
        assert "n_workers" in block


def test_every_backend_has_a_block() -> None:
    assert {env for _, env, _ in BLOCKS_OF_BACKENDS} == {*ENVS}


def test_api_reference_names_what_there_is() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    for module, _, members in re.findall(
        r"^::: (\S+)\n(    options:\n      members:\s*((?:\[.*\]|[-\w\s])*))?", text, re.MULTILINE
    ):
        imported = importlib.import_module(module)
        for member in re.findall(r"\w+", members):
            assert hasattr(imported, member), f"{module} has no {member}"


def test_every_command_can_be_given_from_python() -> None:
    rows = re.findall(
        r"^\| `espnet3 (\w+)` \| (.+) \|$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE
    )
    assert [command for command, _ in rows] == [*main.COMMANDS]
    for _, calls in rows:
        for module, name in re.findall(r"`(espnet3\.[\w.]+)\.(\w+)`", calls):
            assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("cls", [config.ParallelConfig, config.RunConfig])
def test_key_tables_agree_with_the_config_classes(cls: type) -> None:
    text = (ROOT / "docs" / "parallel-config.md").read_text()
    table = text.partition(f"<!-- keys: {cls.__name__} -->\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]
    fields = dataclasses.fields(cls)
    default = cls()
    assert [row[0] for row in rows] == [f"`{field.name}`" for field in fields]
    for key, shown, value, _ in rows:
        name = key.strip("`")
        assert yaml.safe_load(shown.strip("`")) == getattr(default, name), name
        assert value == RULES[name][0], name
