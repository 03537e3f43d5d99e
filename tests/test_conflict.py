"""Another ``espnet3`` in the environment: refused with one sentence, in a fresh interpreter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import espnet3

PACKAGE = Path(espnet3.__file__).parent


def import_in(path: list[Path], statement: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", statement]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("espnet-202611.dist-info", {}),
        ("espnet-202703.post1.dist-info", {}),
        ("espnet-202611-py3.12.egg-info", {}),
        ("espnet.egg-info", {"PKG-INFO": "Metadata-Version: 2.1\nName: espnet\nVersion: 202611\n"}),
        # A checkout of the development branch may carry the package before the release number.
        ("espnet-202511.dist-info", {"top_level.txt": "espnet\nespnet2\nespnet3\n"}),
    ],
)
def test_a_distribution_with_an_espnet3_is_refused(
    tmp_path: Path, name: str, files: dict[str, str]
) -> None:
    site = tmp_path / "site"
    (site / name).mkdir(parents=True)
    for file, text in files.items():
        (site / name / file).write_text(text)
    result = import_in([PACKAGE.parent, site], "import espnet3")
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 1
    assert last.startswith("ImportError: This espnet3 is an independent implementation")
    for part in ("espnet >= 202611", str(site / name), "separate environment", "espnet 202511"):
        assert part in last


@pytest.mark.parametrize(
    "name",
    ["espnet-202511.dist-info", "espnet_model_zoo-0.1.7.dist-info", "espnet3-0.1.0.dist-info"],
)
def test_other_distributions_are_welcome(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "top_level.txt").write_text("espnet\nespnet2\n")
    result = import_in([PACKAGE.parent, tmp_path], "import espnet3; print(espnet3.__version__)")
    assert (result.stdout.strip(), result.stderr) == (espnet3.__version__, "")


def test_modules_that_only_we_have_refuse_when_ours_was_overwritten(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "espnet3", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "espnet3" / "__init__.py").write_text('"""Theirs."""\n')
    (tmp_path / "espnet-202611.dist-info").mkdir()
    result = import_in([tmp_path], "import espnet3.parallel.config")
    assert "ImportError: This espnet3 is an independent implementation" in result.stderr
