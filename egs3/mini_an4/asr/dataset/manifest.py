"""``manifest.tsv``: utterance id, WAV file, seconds and text, one utterance per line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Utterance:
    """One line. `wav` is relative to the manifest's directory, so that the data can be moved."""

    utt_id: str
    wav: str
    seconds: float
    text: str


def manifest_path(recipe_dir: str | Path, split: str) -> Path:
    """Return where the manifest of a split lies."""
    return Path(recipe_dir) / "data" / split / "manifest.tsv"


def read_manifest(path: Path) -> list[Utterance]:
    """Read a manifest that `write_manifest` has written."""
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return [Utterance(utt_id, wav, float(seconds), text) for utt_id, wav, seconds, text in rows]


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest under a temporary name and rename it: there is a whole one, or none."""
    lines = [f"{u.utt_id}\t{u.wav}\t{u.seconds!r}\t{u.text}\n" for u in utterances]
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(lines), encoding="utf-8")
    os.replace(temporary, path)
