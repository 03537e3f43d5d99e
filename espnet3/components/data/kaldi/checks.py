"""What each file of a Kaldi data directory may hold, as ``validate_data_dir.sh`` sees it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import le

from espnet3.components.data.kaldi.files import KaldiTable
from espnet3.components.data.problems import Problems


@dataclass
class Segments:
    """What ``segments`` says, by utterance: its recording, start and end in seconds."""

    recordings: list[str] = field(default_factory=list)
    starts: array[float] = field(default_factory=lambda: array("d"))
    ends: array[float] = field(default_factory=lambda: array("d"))


_TEXT_SYMBOLS = ("<s>", "</s>", "#0")  # the language model's own


def is_pipe(value: str) -> bool:
    """Whether an scp value is a shell command, for reading or for writing, or standard input."""
    return value[-1:] == "|" or value[:1] == "|" or value == "-"


def check_scp(table: KaldiTable, allow_pipes: bool, problems: Problems) -> None:
    """Note what is no file name in ``wav.scp`` or ``feats.scp``."""
    for i, value in enumerate(table.values):
        if value and value[-1] != "|" and value[0] not in "|~-":
            continue
        key, line = table.keys[i], i + 1
        if not value:
            if key:
                problems.add(table.path, line, "no value", f"{key!r} has no file")
        elif value[0] == "~":
            text = f"{key!r}: {value} begins with ~, which no program but a shell replaces"
            problems.add(table.path, line, "tilde", text)
        elif value[0] == "|" or value == "-":
            problems.add(table.path, line, "no input", f"{key!r}: {value!r} is no input file")
        elif value[-1] == "|" and not allow_pipes:
            text = f"{key!r} is a pipe, which would run `{value[:-1].strip()}`; "
            text += "allow_pipes: true allows that, for a file that you trust"
            problems.add(table.path, line, "pipe", text)


def parse_segments(table: KaldiTable, problems: Problems) -> Segments:
    """Return what each line says; what is malformed is noted and left out."""
    segments = Segments()
    names: dict[str, str] = {}  # one object for each recording, however many segments it has
    for i, value in enumerate(table.values):
        try:
            recording, start_text, end_text = value.split()
            start, end = float(start_text), float(end_text)
            good = 0 <= start < end < math.inf
        except ValueError:
            good = False
        if good:
            segments.recordings.append(names.setdefault(recording, recording))
            segments.starts.append(start)
            segments.ends.append(end)
        elif table.keys[i]:
            text = f"{table.keys[i]!r}: {value!r} is no `recording start end` with 0 <= start < end"
            problems.add(table.path, i + 1, "segment", text)
    return segments


def recording_of(value: str) -> str:
    """Return the recording of a line of ``segments``, whatever white space is behind it."""
    return (value.split(None, 1) or [""])[0]


def check_recordings(
    table: KaldiTable, segments: Segments, wav: KaldiTable, problems: Problems
) -> None:
    """Note segments of unknown recordings, and recordings without a segment."""
    known, used = set(wav.keys), set(segments.recordings)
    if used - known:
        for i, value in enumerate(table.values):
            recording = recording_of(value)
            if recording in used - known:
                text = f"{table.keys[i]!r}: recording {recording!r} is not in {wav.path.name}"
                problems.add(table.path, i + 1, "no such recording", text)
    if known - used:
        for i, recording in enumerate(wav.keys):
            if recording and recording not in used:
                text = f"recording {recording!r} has no segment in {table.path.name}"
                problems.add(wav.path, i + 1, "no segment", text)


def check_text(table: KaldiTable, problems: Problems) -> None:
    """Note transcripts with symbols that belong to the language model."""
    everything = "\n".join(table.values)
    for symbol in _TEXT_SYMBOLS:
        if symbol in everything:
            for i, value in enumerate(table.values):
                if symbol in value.split():
                    text = f"{table.keys[i]!r} holds the symbol {symbol}"
                    problems.add(table.path, i + 1, "symbol", text)


def check_speakers(table: KaldiTable, problems: Problems) -> str:
    """Check ``utt2spk``; return a warning where it is not sorted by speaker too, else ``""``."""
    for i, speaker in enumerate(table.values):
        if (not speaker or " " in speaker or "\t" in speaker) and table.keys[i]:
            text = f"{table.keys[i]!r} has not one speaker but {speaker!r}"
            problems.add(table.path, i + 1, "speaker", text)
    speakers = table.values
    if all(map(le, speakers, speakers[1:])):
        return ""
    i = next(i for i in range(1, len(speakers)) if speakers[i] < speakers[i - 1])
    return (
        f"{table.path}, line {i + 1}: sorted by utterance, but not by speaker ({speakers[i]!r} "
        f"comes after {speakers[i - 1]!r}), which Kaldi's own tools need; make the speaker the "
        "beginning of each utterance id"
    )


def speakers_to_utterances(utt2spk: KaldiTable) -> dict[str, str]:
    """Return speaker -> utterances with spaces between, as ``spk2utt`` has them, sorted."""
    by_speaker: dict[str, list[str]] = {}
    for utterance, speaker in zip(utt2spk.keys, utt2spk.values, strict=True):
        by_speaker.setdefault(speaker, []).append(utterance)
    return {speaker: " ".join(sorted(utts)) for speaker, utts in sorted(by_speaker.items())}


def check_spk2utt(table: KaldiTable, expected: Mapping[str, str], problems: Problems) -> None:
    """Note where ``spk2utt`` says other than `expected`, which is made of ``utt2spk``."""
    for i, (speaker, utterances) in enumerate(zip(table.keys, table.values, strict=True)):
        wanted = expected.get(speaker)
        if wanted is None and speaker:
            text = f"speaker {speaker!r} is not in utt2spk"
            problems.add(table.path, i + 1, "not in utt2spk", text)
        elif wanted is not None and utterances != wanted:
            text = f"the utterances of {speaker!r} are not those that utt2spk gives it"
            other = set(wanted.split()) ^ set(utterances.split())
            text += f": {min(other)!r} is in one of them only" if other else " in sorted order"
            problems.add(table.path, i + 1, "not as utt2spk", text)
    for speaker in expected.keys() - set(table.keys):
        problems.add(table.path, None, "lacks", f"speaker {speaker!r} of utt2spk is not here")


def check_numbers(table: KaldiTable, whole: bool, problems: Problems) -> None:
    """Note values that are no numbers above 0; `whole` asks for integers."""
    for i, value in enumerate(table.values):
        try:
            good = int(value) > 0 if whole else 0 < float(value) < math.inf
        except ValueError:
            good = False
        if not good and table.keys[i]:
            kind = "an integer" if whole else "a number"
            text = f"{table.keys[i]!r}: {value!r} is not {kind} above 0"
            problems.add(table.path, i + 1, "number", text)
