"""A recipe in a temporary folder, and a way to launch a system in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from espnet3.systems.launch import launch


@dataclass
class Outcome:
    """What a launch left behind."""

    status: int
    out: str
    err: str


@dataclass
class Recipe:
    """Files of a recipe whose folder is the working directory."""

    root: Path

    def write(self, name: str, text: str) -> str:
        """Write a file and return its relative path."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Recipe(tmp_path)


@pytest.fixture
def run(capsys):
    def run_system(system_class, *argv):
        try:
            launch(system_class, [str(word) for word in argv])
            status = 0
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run_system
