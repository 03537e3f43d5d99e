"""From Debian packages to a Kaldi data directory for each language."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet3.components.data.build_record import BuildRecord
from espnet3.components.data.dataset_builder import DatasetBuilder
from espnet3.components.data.filters import Filtered, filter_utterances
from espnet3.components.data.format_audio import format_audio
from espnet3.components.data.kaldi.directory import write_kaldi_dir
from espnet3.utils.scp import read_scp

from . import packages
from .transcripts import normalizer, read_transcripts, utterance_id

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16000
SOURCE = Path("data/source")


class PromptsBuilder(DatasetBuilder):
    """Builds everything below ``<recipe_dir>/data``.

    Arguments of its methods:
        recipe_dir: The recipe.
        languages: Of ``en``, ``es``, ``fr``, ``it``, ``ru``.
        packages_dir: A directory with the ``.deb`` files; None to have ``apt-get`` download them.
        max_seconds: Longer prompts are left out.
    """

    def is_source_prepared(self, recipe_dir: str, languages: Sequence[str], **_: Any) -> bool:
        """Tell whether the packages of all languages are unpacked."""
        return all((Path(recipe_dir) / SOURCE / language).is_dir() for language in languages)

    def prepare_source(
        self,
        recipe_dir: str,
        languages: Sequence[str],
        packages_dir: str | None = None,
        **_: Any,
    ) -> None:
        """Fetch and unpack the packages that are not there."""
        for language in languages:
            if not (Path(recipe_dir) / SOURCE / language).is_dir():
                packages.fetch(language, Path(recipe_dir) / SOURCE, packages_dir)

    def is_built(
        self, recipe_dir: str, languages: Sequence[str], max_seconds: float, **_: Any
    ) -> bool:
        """Tell whether the data directories of all languages are complete."""
        return all(_record(recipe_dir, one, max_seconds).is_complete() for one in languages)

    def build(
        self, recipe_dir: str, languages: Sequence[str], max_seconds: float, **_: Any
    ) -> None:
        """Make the data directories that are not complete.

        Raises:
            RunFailed: Audio with a transcript cannot be read; failures.jsonl names it.
        """
        for language in languages:
            if not _record(recipe_dir, language, max_seconds).is_complete():
                _build(Path(recipe_dir), language, max_seconds)


def _record(recipe_dir: str | Path, language: str, max_seconds: float) -> BuildRecord:
    data = Path(recipe_dir).absolute() / "data"
    # wav.scp has absolute paths: a copy of the recipe is not to read the audio of the first one.
    return BuildRecord(data / language, {"max_seconds": max_seconds, "below": str(data)})


def _build(recipe_dir: Path, language: str, max_seconds: float) -> None:
    source, data = recipe_dir / SOURCE, recipe_dir / "data" / language
    record = _record(recipe_dir, language, max_seconds)
    record.clear()
    audio, texts = _prompts(source, language)
    spoken = filter_utterances(audio, texts=texts)
    formatted = format_audio(
        [(utt_id, audio[utt_id]) for utt_id in spoken.kept],
        recipe_dir / "data/formatted" / language,
        sample_rate=SAMPLE_RATE,
    )
    wavs, samples = read_scp(formatted.wav_scp), read_scp(formatted.utt2num_samples)
    seconds = {utt_id: int(n) / SAMPLE_RATE for utt_id, n in samples.items()}
    kept = filter_utterances(wavs, seconds=seconds, max_seconds=max_seconds)
    voice = packages.VOICES[language]
    made = write_kaldi_dir(
        data,
        {
            "wav.scp": {utt_id: wavs[utt_id] for utt_id in kept.kept},
            "text": {utt_id: texts[utt_id] for utt_id in kept.kept},
            "utt2spk": dict.fromkeys(kept.kept, voice),
            "utt2num_samples": {utt_id: samples[utt_id] for utt_id in kept.kept},
        },
    )
    left_out = Filtered(kept.kept, spoken.dropped + kept.dropped)
    left_out.write_dropped(data / "dropped.tsv")
    record.write([data / name for name in made.tables])
    logger.info(
        "%s: %d utterances; left out, with the reason in %s: %s",
        language, len(kept.kept), data / "dropped.tsv", left_out.counts or "none",
    )  # fmt: skip


def _prompts(source: Path, language: str) -> tuple[dict[str, Path], dict[str, str]]:
    """Utterance -> file, and utterance -> normalised text, which not every file has."""
    voice, root = packages.VOICES[language], packages.audio_dir(source, language)
    normalize = normalizer(language)
    keys = {
        path.relative_to(root).with_suffix("").as_posix(): path for path in root.rglob("*.g722")
    }
    audio = {utterance_id(voice, key): path for key, path in keys.items()}
    raw = read_transcripts(packages.transcript_file(source, language))
    texts = {utterance_id(voice, key): normalize(text) for key, text in raw.items() if key in keys}
    return dict(sorted(audio.items())), texts
