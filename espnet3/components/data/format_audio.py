"""Formatting audio: any input as 16-bit FLAC or WAV at one rate, one file or ark entry each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from espnet3.components.data.audio import files as audio_files
from espnet3.components.data.audio.decoders import Samples
from espnet3.components.data.audio.read import Channel
from espnet3.components.data.kaldi.checks import is_pipe
from espnet3.components.data.kaldi.values import read_audio_value
from espnet3.components.data.utterances import (
    Utterance,
    check_sources,
    checked_utterances,
    known_seconds,
)
from espnet3.errors import ConfigError, DataError, RunFailed
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.engine import durable
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.utils.ark import ShardArk, import_kaldiio, render_entry
from espnet3.utils.ark_merge import publish_ark
from espnet3.utils.artifact_formats import ArtifactFormat
from espnet3.utils.scp import check_scp_value

FORMATS = ("flac", "wav", "flac.ark")
STEP = "format_audio"


@dataclass(frozen=True)
class FormattedAudio:
    """What was published.

    Attributes:
        wav_scp: ``<utterance> <absolute path>`` in the order given, for Kaldi and ESPnet.
        utt2num_samples: ``<utterance> <samples>`` in the same order.
        n_utterances: How many.
        seconds: Of audio in all.
    """

    wav_scp: Path
    utt2num_samples: Path
    n_utterances: int
    seconds: float


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
    called again on a finished run it does nothing but check that the files are still there. A file
    that cannot be read fails its utterances alone. That a source has another content under the
    same name later on is not noticed.

    Args:
        utterances: `Utterance`s, or (id, file) pairs, or what `kaldi_utterances` returns.
        out_dir: Gets ``audio/<utterance>.flac`` (beyond 4000 utterances ``audio/<hash>/...``),
            ``wav.scp``, ``utt2num_samples``, and the run in ``run/format_audio``. With
            ``flac.ark``, ``wav/wav.<N>.ark`` of up to 1 GiB in place of files; those stand in the
            run directory as well, which may be removed afterwards.
        sample_rate: Hz.
        audio_format: ``flac``, ``wav`` or ``flac.ark``.
        channel: From 0, or ``"mean"``; `None` fails recordings with several channels.
        allow_pipes: Whether ``command |`` may be run, by the shell.

    Raises:
        ConfigError: An argument is wrong, or a package of the extra ``data`` is missing.
        DataError: An id comes twice, a source or a ``wav.scp`` of somebody else lies where results
            go, or a result is gone.
        RunFailed: Some utterances failed, all others are done; nothing was published.
    """
    out = Path(out_dir).absolute()
    items = checked_utterances(utterances)
    check_sources(items, out / audio_files.AUDIO)
    _check_own(out)
    provider = FormatAudioProvider(
        out,
        sample_rate=sample_rate,
        audio_format=audio_format,
        channel=channel,
        allow_pipes=allow_pipes,
        n_hex=audio_files.n_hex_digits(len(items)),
    )
    runner = FormatAudioRunner(provider, output_dir=out / "run", shard_subdir=STEP)
    try:
        made: FormattedAudio = runner([list(i) for i in items], durations=known_seconds(items))
    except RunFailed as error:
        error.debug = ""  # the runner is nothing that the caller has in hand
        raise
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

    @staticmethod
    def forward(idx: Sequence[Any], out_dir: Path, how: Mapping[str, Any]) -> dict[str, Any]:
        """Read one utterance, and write its file if it gets one of its own.

        Raises:
            DataError: The utterance cannot be read; the message names it and the file.
        """
        utterance = Utterance(*idx)
        try:
            samples = audio_files.to_int16(_read(utterance, how), utterance.audio)
        except DataError as error:
            raise DataError(f"utterance {utterance.utt_id!r}: {error}") from error
        made: dict[str, Any] = {"utt_id": utterance.utt_id, "n_samples": len(samples)}
        if how["audio_format"] == "flac.ark":
            packed = ArtifactFormat("ark", None, {"sample_rate": how["sample_rate"]})
            return {**made, "entry": render_entry(utterance.utt_id, samples, packed, "wav")}
        path = audio_files.file_of(utterance.utt_id, how["audio_format"], how["n_hex"])
        audio_files.write_audio(out_dir / path, samples, how["sample_rate"])
        return {**made, "path": path}

    @staticmethod
    def open_writers(shard_dir: Path, how: Mapping[str, Any]) -> dict[str, Any]:
        """Open the shard's ``wav.scp`` (paths below ``out_dir``) and ``utt2num_samples``."""
        names = ("wav.scp", "utt2num_samples")
        writers: dict[str, Any] = {n: (shard_dir / n).open("w", encoding="utf-8") for n in names}
        ark = how["audio_format"] == "flac.ark"
        return writers | (
            {"ark": ShardArk(shard_dir, "wav")} if ark else {"files": audio_files.Flushed()}
        )

    @staticmethod
    def write_record(
        writers: dict[str, Any], result: dict[str, Any], state: Any, out_dir: Path
    ) -> None:
        """Write the lines of one utterance."""
        if "entry" in result:
            place = writers["ark"].add(result["entry"])
        else:
            place = result["path"]
            writers["files"].paths.append(out_dir / place)
        _line(writers["wav.scp"], result["utt_id"], place)
        _line(writers["utt2num_samples"], result["utt_id"], result["n_samples"])

    def merge(self, shard_dirs: list[Path]) -> FormattedAudio:
        """Publish ``wav.scp`` and ``utt2num_samples``.

        Raises:
            DataError: A file is gone; nothing was published.
        """
        out, how = Path(self.provider.config["output_dir"]), self.provider.config
        for name in ("wav.scp", "utt2num_samples"):
            for left in out.glob(f".{name}.*.tmp"):  # by a process that was killed
                left.unlink()
        if how["audio_format"] == "flac.ark":
            publish_ark(shard_dirs, "wav", out)
        else:
            _publish_paths(shard_dirs, out, self.run_dir)
        n_utterances, n_samples = 0, 0
        with durable.replacing(out / "utt2num_samples") as published:
            for line in _lines(shard_dirs, "utt2num_samples"):
                published.write(line.encode())
                n_utterances, n_samples = n_utterances + 1, n_samples + int(line.split(" ")[1])
        durable.fsync_path(out)
        seconds = n_samples / how["sample_rate"]
        return FormattedAudio(out / "wav.scp", out / "utt2num_samples", n_utterances, seconds)


def _check_own(out: Path) -> None:
    """Refuse a directory whose ``wav.scp`` is another's, perhaps that of the sources."""
    table = out / "wav.scp"
    if (out / "run" / STEP).exists() or not table.exists():
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


def _publish_paths(shard_dirs: Sequence[Path], out: Path, run_dir: Path) -> None:
    there = audio_files.files_below(out)
    with durable.replacing(out / "wav.scp") as published:
        for line in _lines(shard_dirs, "wav.scp"):
            utt_id, place = line[:-1].split(" ", 1)
            if place not in there:
                raise DataError(
                    f"utterance {utt_id!r}: {out / place} was made, and is gone; remove {run_dir} "
                    "to make all audio again"
                )
            path = check_scp_value(str(out / place), utt_id, "wav")
            published.write(f"{utt_id} {path}\n".encode())


def _lines(shard_dirs: Sequence[Path], name: str) -> Iterable[str]:
    for shard_dir in shard_dirs:
        with (shard_dir / name).open(encoding="utf-8", newline="\n") as lines:
            yield from lines


def _line(file: TextIO, utt_id: str, value: Any) -> None:
    file.write(f"{utt_id} {value}\n")
