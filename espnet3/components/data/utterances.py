"""Where the audio of utterances is, as the steps of data preparation take it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from espnet3.components.data.kaldi.directory import read_kaldi_dir
from espnet3.errors import DataError
from espnet3.utils.scp import check_utt_id


class Utterance(NamedTuple):
    """One utterance: a recording, or a stretch of one.

    Attributes:
        utt_id: Its id, which becomes a file name.
        audio: A file, or whatever else may stand in ``wav.scp``.
        start: Seconds; `None` for the beginning of the recording.
        end: Seconds; `None` for its end.
    """

    utt_id: str
    audio: str
    start: float | None = None
    end: float | None = None


def kaldi_utterances(path: str | os.PathLike[str], allow_pipes: bool = False) -> list[Utterance]:
    """Return the utterances of a Kaldi data directory: its ``wav.scp``, cut by its ``segments``.

    Args:
        path: The directory.
        allow_pipes: Whether ``wav.scp`` may hold shell commands.

    Raises:
        DataError: It is not valid (see `read_kaldi_dir`), or has no ``wav.scp``.
    """
    directory = read_kaldi_dir(Path(path), allow_pipes, require=["wav.scp"])
    recordings = directory["wav.scp"].as_dict()
    if "segments" not in directory:
        return [Utterance(utt_id, audio) for utt_id, audio in recordings.items()]
    cut = directory.segments
    stretches = zip(directory["segments"].keys, cut.recordings, cut.starts, cut.ends, strict=True)
    return [Utterance(utt, recordings[rec], start, end) for utt, rec, start, end in stretches]


def checked_utterances(
    utterances: Iterable[Utterance | tuple[str, str | os.PathLike[str]]],
) -> list[Utterance]:
    """Return them as a list, when every id can be one and none comes twice.

    Raises:
        DataError: There are none, one is something else, or an id comes twice.
        RecordRejected: An id cannot be the name of a file.
    """
    checked, seen = [], set()
    for number, given in enumerate(utterances):
        utterance = _utterance(given, number)
        check_utt_id(utterance.utt_id, f"utterance {number}")
        if utterance.utt_id in seen:
            raise DataError(f"utterance {utterance.utt_id!r} comes twice")
        seen.add(utterance.utt_id)
        checked.append(utterance)
    if not checked:
        raise DataError("there are no utterances")
    return checked


def _utterance(given: Any, number: int) -> Utterance:
    try:
        if isinstance(given, str):  # such as the keys of a dict
            raise TypeError
        utt_id, audio, *times = given
        return Utterance(utt_id, os.fspath(audio), *(t if t is None else float(t) for t in times))
    except (TypeError, ValueError):
        raise DataError(
            f"utterance {number}: {given!r} is neither (id, file) nor (id, file, start, end)"
        ) from None


def check_sources(items: Iterable[Utterance], results: Path) -> None:
    """Refuse sources in the directory that results are written to.

    Raises:
        DataError: naming the first one.
    """
    if not results.exists():
        return
    root = os.path.join(os.path.realpath(results), "")
    real: dict[str, str] = {}
    for item in items:
        folder, name = os.path.split(item.audio)
        if folder not in real:
            real[folder] = os.path.join(os.path.realpath(folder), "")
        path = real[folder] + name
        if path.startswith(root) or (
            os.path.islink(path) and os.path.realpath(path).startswith(root)
        ):
            raise DataError(
                f"utterance {item.utt_id!r}: its audio {item.audio} lies in {results}, where the "
                "results go; choose another out_dir, so that no source is overwritten"
            )


def known_seconds(utterances: Iterable[Utterance]) -> list[float] | None:
    """Return the length of each where all are stretches with both ends, else `None`."""
    seconds = []
    for utterance in utterances:
        if utterance.end is None:
            return None
        seconds.append(utterance.end - (utterance.start or 0.0))
    return seconds
