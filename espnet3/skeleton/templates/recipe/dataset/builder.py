"""From the raw corpus to audio files and manifests in ``data/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from espnet3.components.data.build_record import BuildRecord
from espnet3.components.data.dataset_builder import DatasetBuilder
from espnet3.components.data.manifest import write_manifest

from .dataset import manifest_path

SAMPLE_RATE = 16000  # Hz
HERTZ = {"low": 200, "mid": 900, "high": 2000}
SPLITS = {
    "train": {"utt1": "low", "utt2": "high", "utt3": "high low"},
    "test": {"utt4": "low high", "utt5": "high high low", "utt6": "low mid high"},
}
"""Split -> utterance id -> text. TODO: yours come from the corpus."""


class Builder(DatasetBuilder):
    """Builds everything below ``<recipe_dir>/data``; every method gets ``recipe_dir``."""

    def is_source_prepared(self, recipe_dir: str | Path, **_: Any) -> bool:
        """Tell whether the raw corpus is there, all of it."""
        return (Path(recipe_dir) / "data/source/text").is_file()

    def prepare_source(self, recipe_dir: str | Path, **_: Any) -> None:
        """Make the raw corpus. TODO: download or unpack yours instead."""
        source = Path(recipe_dir) / "data/source"
        source.mkdir(parents=True, exist_ok=True)
        time = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
        texts = {utt_id: text for split in SPLITS.values() for utt_id, text in split.items()}
        for utt_id, text in texts.items():
            tones = [0.5 * np.sin(2 * np.pi * HERTZ[word] * time) for word in text.split()]
            soundfile.write(source / f"{utt_id}.wav", np.concatenate(tones), SAMPLE_RATE)
        lines = [f"{utt_id} {text}\n" for utt_id, text in texts.items()]
        (source / "text").write_text("".join(lines), encoding="utf-8")  # last: all is there

    def is_built(self, recipe_dir: str | Path, **_: Any) -> bool:
        """Tell whether a build came to its end and its files are still there."""
        return _record(recipe_dir).is_complete()

    def build(self, recipe_dir: str | Path, **_: Any) -> None:
        """Write one manifest for each split. TODO: read the texts and audio files of yours."""
        record = _record(recipe_dir)
        record.clear()
        source = Path(recipe_dir) / "data/source"
        lines = (source / "text").read_text(encoding="utf-8").splitlines()
        texts = dict(line.split(" ", 1) for line in lines)
        manifests = []
        for split, utterances in SPLITS.items():
            rows = []
            for utt_id in sorted(utterances):
                wav = f"{utt_id}.wav"
                seconds = soundfile.info(source / wav).duration
                # The path is relative to the manifest, so that the recipe can be moved.
                row = {"utt_id": utt_id, "audio": f"source/{wav}", "seconds": seconds}
                rows.append({**row, "text": texts[utt_id]})
            manifest = manifest_path(recipe_dir, split)
            manifest.parent.mkdir(parents=True, exist_ok=True)
            write_manifest(manifest, rows)
            manifests.append(manifest)
        record.write(manifests)


def _record(recipe_dir: str | Path) -> BuildRecord:
    """What is built, and from what: another value here has it built again."""
    return BuildRecord(Path(recipe_dir) / "data", {"splits": SPLITS})
