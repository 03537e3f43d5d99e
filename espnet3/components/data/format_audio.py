"""Formatting audio: any input as 16-bit FLAC or WAV at one rate, one file or ark entry each."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from espnet3.components.data.audio import files as audio_files
from espnet3.components.data.audio.decoders import Samples
from espnet3.components.data.audio.read import Channel
from espnet3.components.data.fetch.restartable import RUN
from espnet3.components.data.kaldi.checks import is_pipe
from espnet3.components.data.kaldi.values import read_audio_value
from espnet3.components.data.made_files import (
    SAMPLES,
    TABLE,
    Made,
    MadeFiles,
    publish_counts,
    publish_files,
    read_shards,
    recipe_of,
    stamp_of,
)
from espnet3.components.data.published_audio import (
    FormattedAudio,
    note_published,
    published_before,
)
from espnet3.components.data.utterances import (
    Utterance,
    check_sources,
    checked_utterances,
    known_seconds,
)
from espnet3.errors import ConfigError, DataError, RunFailed
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.engine.items import digest_items
from espnet3.parallel.engine.manifest import Manifest
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import get_settings
from espnet3.utils import durable
from espnet3.utils.ark import ShardArk, import_kaldiio, render_entry
from espnet3.utils.ark_merge import entries_of, publish_ark
from espnet3.utils.artifact_formats import ArtifactFormat

logger = logging.getLogger(__name__)

FORMATS = ("flac", "wav", "flac.ark")
STEP = "format_audio"
ARKS = "wav"  # the packed field, and its directory below out_dir


def format_audio(
    utterances: Iterable[Utterance | tuple[str, str | os.PathLike[str]]],
    out_dir: str | os.PathLike[str],
    *,
    sample_rate: int = 16000,
    audio_format: str = "flac",
    channel: Channel = None,
    allow_pipes: bool = False,
) -> FormattedAudio:
    """Write each utterance as 16-bit audio of one channel and rate.

    It runs where `set_parallel` or a session says. Called again after an interruption it goes on;
    called again later, with the same list or another one, it makes what is not there or whose
    source has changed (by size and time). With ``flac.ark`` it goes by the list alone, and refuses
    another one. A file that cannot be read fails its utterances alone.

    Args:
        utterances: `Utterance`s, or (id, file) pairs, or what `kaldi_utterances` returns.
        out_dir: Gets ``audio/<utterance>.flac`` (beyond 4000 utterances ``audio/<hash>/...``),
            ``wav.scp``, ``utt2num_samples``, and the run in ``run/format_audio``. With
            ``flac.ark``, ``wav/wav.<N>.ark`` of up to 1 GiB in place of files; those stand in the
            run directory as well, until ``espnet3 clean``.
        sample_rate: Hz.
        audio_format: ``flac``, ``wav`` or ``flac.ark``.
        channel: From 0, or ``"mean"``; `None` fails recordings with several channels.
        allow_pipes: Whether ``command |`` may be run, by the shell.

    Raises:
        ConfigError: An argument is wrong, or a package of the extra ``data`` is missing.
        DataError: An id comes twice, a source or a ``wav.scp`` of somebody else lies where results
            go, or a result is gone.
        RunFailed: Some utterances failed, all others are done; nothing was published.
        RunStopped: ``run.limit`` leaves some to be made.
    """
    out = Path(out_dir).absolute()
    items = checked_utterances(utterances)
    check_sources(items, out / (ARKS if audio_format == "flac.ark" else audio_files.AUDIO))
    _check_own(out)
    provider = FormatAudioProvider(
        out,
        sample_rate=sample_rate,
        audio_format=audio_format,
        channel=channel,
        allow_pipes=allow_pipes,
        n_hex=audio_files.n_hex_digits(len(items)),
    )
    runner = FormatAudioRunner(provider, output_dir=out / RUN, shard_subdir=STEP)
    missing = items if audio_format == "flac.ark" else _missing(runner, items)
    if not missing:
        return runner.publish([])
    try:
        made: FormattedAudio | None = runner(_as_items(missing), known_seconds(missing))
    except RunFailed as error:
        error.debug = ""  # the runner is nothing that the caller has in hand
        raise
    if made is None:  # its shards were removed, or it is limited
        return published_before(runner.run_dir, out, sample_rate)
    return made


class FormatAudioProvider(EnvironmentProvider):
    """What `FormatAudioRunner` needs: where results go, and how they are to be.

    Args:
        out_dir: As for `format_audio`, like the other arguments.
        n_hex: Hexadecimal digits of a hash of the utterance that name the directory of its file;
            0 for one directory.

    Raises:
        ConfigError: An argument is wrong.
    """

    def __init__(
        self,
        out_dir: str | os.PathLike[str],
        *,
        sample_rate: int = 16000,
        audio_format: str = "flac",
        channel: Channel = None,
        allow_pipes: bool = False,
        n_hex: int = 0,
    ) -> None:
        if audio_format not in FORMATS:
            raise ConfigError(f"audio_format: {audio_format!r} is none of {', '.join(FORMATS)}")
        if type(sample_rate) is not int or sample_rate < 1:
            raise ConfigError(f"sample_rate: {sample_rate!r} is no number of samples per second")
        is_index = type(channel) is int and channel >= 0
        if channel is not None and channel != "mean" and not is_index:
            raise ConfigError(f"channel: {channel!r} is neither an index from 0 nor 'mean'")
        if audio_format == "flac.ark":
            import_kaldiio()
        how = {"sample_rate": sample_rate, "audio_format": audio_format, "channel": channel}
        how |= {"allow_pipes": allow_pipes, "n_hex": n_hex}
        super().__init__({"output_dir": str(Path(out_dir).absolute()), **how})

    def build_env_local(self) -> dict[str, Any]:
        """Return ``out_dir`` (absolute) and ``how``, the arguments."""
        return {"out_dir": Path(self.config["output_dir"]), "how": self.config}


class FormatAudioRunner(BaseRunner):
    """Formats ``[id, audio, start, end]`` items; see `format_audio`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name_of = lambda item: str(item[0])
        self.utterances: Sequence[Utterance] = ()
        self.before: MadeFiles | None = None
        """What was made already; its part of the `utterances` is published among them."""

    @staticmethod
    def forward(idx: Sequence[Any], out_dir: Path, how: Mapping[str, Any]) -> dict[str, Any]:
        """Read one utterance, and write its file if it gets one of its own.

        Raises:
            DataError: The utterance cannot be read; the message names it and the file.
        """
        utterance = Utterance(*idx)
        stamp = stamp_of(utterance.audio)  # before it is read: it may be replaced meanwhile
        try:
            samples = audio_files.to_int16(_read(utterance, how), utterance.audio)
        except DataError as error:
            raise DataError(f"utterance {utterance.utt_id!r}: {error}") from error
        made: dict[str, Any] = {"utt_id": utterance.utt_id, "n_samples": len(samples)}
        if how["audio_format"] == "flac.ark":
            packed = ArtifactFormat("ark", None, {"sample_rate": how["sample_rate"]})
            return {**made, "entry": render_entry(utterance.utt_id, samples, packed, ARKS)}
        path = audio_files.file_of(utterance.utt_id, how["audio_format"], how["n_hex"])
        audio_files.write_audio(out_dir / path, samples, how["sample_rate"])
        return {**made, "path": path, "recipe": recipe_of(utterance, how), "stamp": stamp}

    @staticmethod
    def open_writers(shard_dir: Path, how: Mapping[str, Any]) -> dict[str, Any]:
        """Open the shard's table of files, or its ark and its ``utt2num_samples``."""
        is_ark = how["audio_format"] == "flac.ark"
        name = SAMPLES if is_ark else TABLE
        table = (shard_dir / name).open("w", encoding="utf-8", newline="\n")
        if is_ark:
            index = (shard_dir / "wav.scp").open("w", encoding="utf-8")
            return {"table": table, "index": index, "ark": ShardArk(shard_dir, ARKS)}
        return {"table": table, "files": audio_files.Flushed()}

    @staticmethod
    def write_record(
        writers: dict[str, Any], result: dict[str, Any], state: Any, out_dir: Path
    ) -> None:
        """Write the lines of one utterance."""
        if "entry" in result:
            place = writers["ark"].add(result["entry"])
            writers["index"].write(f"{result['utt_id']} {place}\n")
            writers["table"].write(f"{result['utt_id']} {result['n_samples']}\n")
            return
        writers["files"].paths.append(out_dir / result["path"])
        writers["table"].write(Made(**result).line())

    def merge(self, shard_dirs: list[Path]) -> FormattedAudio:
        """Publish ``wav.scp`` and ``utt2num_samples``.

        Raises:
            DataError: A file is gone; nothing was published.
        """
        return self.publish(shard_dirs)

    def identity(self) -> dict[str, Any]:
        """Leave out how files are spread over directories: what is there stays where it is."""
        return {k: v for k, v in super().identity().items() if k != "config.n_hex"}

    def publish(self, shard_dirs: Sequence[Path]) -> FormattedAudio:
        """Do as `merge`, also where there was nothing to make."""
        out, how = Path(self.provider.config["output_dir"]), self.provider.config
        for name in ("wav.scp", SAMPLES):
            for left in out.glob(f".{name}.*.tmp"):  # by a process that was killed
                left.unlink()
        if how["audio_format"] == "flac.ark":
            publish_ark(chain.from_iterable(entries_of(d, ARKS) for d in shard_dirs), ARKS, out)
            counts = publish_counts(shard_dirs, out)
            arks = (f"{ARKS}/{path.name}" for path in (out / ARKS).glob("*.ark"))
            note_published(self.run_dir, out, ["wav.scp", SAMPLES, *arks], counts)
        else:
            rows = read_shards(shard_dirs)
            if self.before is not None and self.before.kept:
                rows = self.before.among(self.utterances, rows)
            counts = publish_files(rows, out, self.run_dir, self.before)
        durable.fsync_path(out)
        return FormattedAudio.of(out, counts, how["sample_rate"])


def _missing(runner: FormatAudioRunner, items: Sequence[Utterance]) -> Sequence[Utterance]:
    """What is to be made; `runner` is told what is not, and whether its run is over another list.

    Raises:
        IdentityChanged: The list is another one, and so are the arguments.
    """
    if not get_settings()[1].resume:
        return items
    out, run_dir, how = runner.provider.config["output_dir"], runner.run_dir, runner.provider.config
    before, there = MadeFiles(run_dir.parent), audio_files.files_below(Path(out))
    runner.utterances, runner.before = items, before
    missing = before.missing(items, how, there)
    manifest = Manifest.read(run_dir)
    if manifest is not None and manifest.items != digest_items(_as_items(missing)):
        if missing:  # they would be made by this call's arguments
            manifest.check_identity(manifest.known_part(runner.identity()), run_dir)
        before.take_over(run_dir)
        missing = before.missing(items, how, there)
        runner.starts_over = True  # of the run alone: all that it has made is kept
    if before.kept:
        logger.info("%d of %d utterances are there already", len(before.kept), len(items))
    return missing


def _as_items(utterances: Sequence[Utterance]) -> list[list[Any]]:
    return [list(one) for one in utterances]


def _check_own(out: Path) -> None:
    """Refuse a directory whose ``wav.scp`` is another's, perhaps that of the sources."""
    table = out / "wav.scp"
    if (out / RUN / STEP).exists() or not table.exists():
        return
    with table.open(encoding="utf-8", errors="replace") as lines:
        _, _, place = lines.readline().partition(" ")
    if not place.startswith(f"{out}{os.sep}"):
        raise DataError(
            f"{table} was not written by this step, and would be overwritten; choose another "
            "out_dir, or remove it"
        )


def _read(utterance: Utterance, how: Mapping[str, Any]) -> Samples:
    _, audio, start, end = utterance
    if is_pipe(audio) and not how["allow_pipes"]:
        raise DataError(f"{audio!r} is a command, which runs only with allow_pipes: true")
    return read_audio_value(audio, start, end, how["channel"], how["sample_rate"])[0]
