"""From the archive in ``downloads/`` to WAV files and manifests in ``data/``."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import soundfile

from espnet3.components.data.build_record import BuildRecord
from espnet3.components.data.dataset_builder import DatasetBuilder
from espnet3.components.data.extract import extract_archive
from espnet3.components.data.manifest import write_manifest
from espnet3.errors import DataError

from .dataset import manifest_path

ARCHIVE = Path("downloads/an4_excerpt.tar.gz")
SOURCE = Path("data/source")
SAMPLE_RATE = 16000
SPLITS = {"train": "an4_train", "test": "an4_test"}
"""Our name of a split, and that of its files in AN4's ``etc/``."""

_LINE = re.compile(r"(?:<s>\s+)?(?P<text>.*?)(?:\s+</s>)?\s+\((?P<file>[\w-]+)\)\s*")


class MiniAn4Builder(DatasetBuilder):
    """Builds everything below ``<recipe_dir>/data``; every method takes ``recipe_dir``."""

    def is_source_prepared(self, recipe_dir: str | Path, **_: Any) -> bool:
        """Tell whether the archive is unpacked; it gets its name only when it is whole."""
        return (Path(recipe_dir) / SOURCE / "an4" / "etc").is_dir()

    def prepare_source(self, recipe_dir: str | Path, **_: Any) -> None:
        """Unpack the archive. Members that would leave the directory are refused."""
        source = Path(recipe_dir) / SOURCE
        shutil.rmtree(source, ignore_errors=True)
        extract_archive(Path(recipe_dir) / ARCHIVE, source)

    def is_built(self, recipe_dir: str | Path, **_: Any) -> bool:
        """Tell whether a build came to its end and its files are still there, by their sizes."""
        return _record(recipe_dir).is_complete()

    def build(self, recipe_dir: str | Path, **_: Any) -> None:
        """Convert SPHERE to WAV and write one manifest per split; all of it again if called again.

        Raises:
            DataError: a transcript or recording is not what AN4 has.
        """
        record, files = _record(recipe_dir), []
        record.clear()
        for split, name in SPLITS.items():
            manifest = manifest_path(recipe_dir, split)
            (manifest.parent / "wav").mkdir(parents=True, exist_ok=True)
            corpus = Path(recipe_dir) / SOURCE / "an4"
            recordings = _recordings(corpus, name)
            rows = []
            for file, text in _transcripts(corpus / "etc" / f"{name}.transcription"):
                if file not in recordings:
                    raise DataError(f"{name}: {file!r} has a transcript but no recording")
                rows.append(_convert(recordings[file], text, manifest.parent))
            write_manifest(manifest, sorted(rows, key=lambda row: str(row["utt_id"])))
            files += [manifest, *(manifest.parent / row["audio"] for row in rows)]
        record.write(files)


def _record(recipe_dir: str | Path) -> BuildRecord:
    return BuildRecord(Path(recipe_dir) / "data", {"sample_rate": SAMPLE_RATE})


def _recordings(corpus: Path, name: str) -> dict[str, Path]:
    lines = (corpus / "etc" / f"{name}.fileids").read_text(encoding="utf-8").split()
    return {Path(line).name: corpus / "wav" / f"{line}.sph" for line in lines}


def _transcripts(path: Path) -> list[tuple[str, str]]:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise DataError(f"{path}, line {number}: not `<s> TEXT </s> (file)`: {line!r}")
        found.append((match["file"], match["text"]))
    return found


def _convert(sphere: Path, text: str, directory: Path) -> dict[str, Any]:
    """Write the recording as 16-bit PCM, the samples as they are; return its manifest row."""
    samples, rate = soundfile.read(sphere, dtype="int16")
    if rate != SAMPLE_RATE or samples.ndim != 1:
        raise DataError(f"{sphere}: {rate} Hz, {samples.ndim} channel axes; not 16 kHz mono")
    # Kaldi wants ids that sort by speaker. AN4 names a file <utterance>-<speaker>-b.
    utt_id = f"{sphere.stem.split('-')[1]}-{sphere.stem}"
    wav = directory / "wav" / f"{utt_id}.wav"
    temporary = wav.with_name(f".{wav.name}.tmp")
    soundfile.write(temporary, samples, rate, subtype="PCM_16", format="WAV")
    os.replace(temporary, wav)
    seconds = len(samples) / rate
    return {"utt_id": utt_id, "audio": f"wav/{wav.name}", "seconds": seconds, "text": text}
