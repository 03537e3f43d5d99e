"""A Kaldi data directory as a whole: reading, checking, writing and mending it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet3.components.data.kaldi import checks
from espnet3.components.data.kaldi.files import (
    KaldiTable,
    check_same_keys,
    check_writable,
    read_table,
    write_table,
)
from espnet3.components.data.problems import Problems, decoded
from espnet3.errors import DataError

logger = logging.getLogger(__name__)

FILES = (
    *("wav.scp", "segments", "feats.scp", "text", "utt2spk", "spk2utt"),
    *("utt2num_samples", "utt2dur"),
)
"""The files that are read; others in the directory are let alone."""

KALDI_REQUIRES = ("wav.scp", "text", "utt2spk", "spk2utt")
"""What ``validate_data_dir.sh --no-feats`` asks for."""


@dataclass
class KaldiDir:
    """The files of one directory, by name, each sorted by key.

    Attributes:
        path: The directory.
        tables: Those of `FILES` that are there.
        utterances: Their ids, in order. All files but ``spk2utt`` (and ``wav.scp`` beside
            ``segments``) have just these keys.
        segments: What ``segments`` says; empty without that file.
    """

    path: Path
    tables: dict[str, KaldiTable]
    utterances: list[str] = field(default_factory=list)
    segments: checks.Segments = field(default_factory=checks.Segments)

    def __contains__(self, name: str) -> bool:
        return name in self.tables

    def __getitem__(self, name: str) -> KaldiTable:
        """Return one file; `KeyError` if it is not there."""
        return self.tables[name]


def read_kaldi_dir(
    path: str | Path, allow_pipes: bool = False, require: Sequence[str] = ()
) -> KaldiDir:
    """Read and check a directory; some seconds for a million utterances.

    Checked is what ``utils/validate_data_dir.sh`` checks in these files: UTF-8 and white space,
    keys sorted as ``LC_ALL=C sort`` does and each once, the same utterances in all files, the same
    recordings in ``segments`` and ``wav.scp``, ``0 <= start < end``, ``spk2utt`` and ``utt2spk``
    saying the same, no ``<s>``, ``</s>``, ``#0`` in ``text``. That ``utt2spk`` is not sorted by
    speaker as well is a warning. Audio files are not looked at.

    Args:
        path: The directory.
        allow_pipes: Whether ``wav.scp`` and ``feats.scp`` may hold shell commands.
        require: Files that have to be there, such as `KALDI_REQUIRES`.

    Raises:
        DataError: With every problem, its file and line; of many alike the first ones.
    """
    path, problems = Path(path), Problems()
    tables = _read_tables(path, problems)
    for name in require:
        if name not in tables:
            problems.add(path / name, None, "missing", "is not there")
    if not tables:
        problems.add(path, None, "missing", f"has none of {', '.join(FILES)}")
    kaldi_dir = _checked(path, tables, allow_pipes, problems)
    problems.raise_if_any(
        f"{path} is no valid Kaldi data directory",
        "espnet3.components.data.kaldi.directory.fix_kaldi_dir sorts, and leaves out what is "
        "not in all files.",
    )
    return kaldi_dir


def write_kaldi_dir(
    path: str | Path, files: Mapping[str, Mapping[str, str] | Iterable[tuple[str, str]]]
) -> KaldiDir:
    """Write a directory, each file sorted and in one step, after it was checked like one read.

    Args:
        path: The directory; made if it is not there. Files that are not given are let alone.
        files: By name (one of `FILES`) key -> value. ``spk2utt`` is made of ``utt2spk`` and need
            not be given. Pipes are written as they are.

    Raises:
        DataError: The files do not make a valid directory; nothing was written.
    """
    path = Path(path)
    unknown = sorted(set(files) - set(FILES))
    if unknown:
        raise DataError(f"{path}: {', '.join(unknown)}: not among {', '.join(FILES)}")
    tables = {}
    for name, given in files.items():
        pairs = sorted(given.items() if isinstance(given, Mapping) else given)
        tables[name] = KaldiTable(path / name, [k for k, _ in pairs], [v for _, v in pairs])
    if "utt2spk" in tables:
        tables["spk2utt"] = _derived_spk2utt(path, tables["utt2spk"])
    problems = Problems()
    for table in tables.values():
        check_writable(table, problems)
    kaldi_dir = _checked(path, tables, True, problems)
    problems.raise_if_any(f"nothing was written, as {path} would be no valid Kaldi data directory")
    path.mkdir(parents=True, exist_ok=True)
    for table in tables.values():
        write_table(table)
    return kaldi_dir


def fix_kaldi_dir(path: str | Path) -> dict[str, int]:
    """Mend a directory as ``utils/fix_data_dir.sh`` does; the old files are kept in ``.backup/``.

    White space is made plain, files are sorted, of a key that comes twice the first line is kept,
    and what is not in all files (an utterance, a recording, a speaker) is left out of all.

    Returns:
        By file, how many lines were left out.

    Raises:
        DataError: A file is not UTF-8, or what is left is no valid directory; nothing was changed.
    """
    path = Path(path)
    tables = _read_tables(path, Problems())
    unreadable = Problems()
    for table in tables.values():
        decoded(table.path.read_bytes(), table.path, unreadable)
    unreadable.raise_if_any(
        f"{path} was left as it is", "Convert it first, such as with `iconv -f latin1 -t utf-8`."
    )
    before = {name: len(table) for name, table in tables.items()}
    tables.pop("spk2utt", None)
    files = {name: _first_of_each(table) for name, table in tables.items()}
    _keep_common(files)
    backup = path / ".backup"
    backup.mkdir(exist_ok=True)
    for name in before:
        shutil.copy2(path / name, backup / name)
    fixed = write_kaldi_dir(path, files)
    return {
        name: before[name] - len(table) for name, table in fixed.tables.items() if name in before
    }


def _read_tables(path: Path, problems: Problems) -> dict[str, KaldiTable]:
    if not path.is_dir():
        raise DataError(f"{path} is no directory")
    there = [name for name in FILES if (path / name).is_file()]
    return {name: read_table(path / name, problems) for name in there}


def _checked(
    path: Path, tables: dict[str, KaldiTable], allow_pipes: bool, problems: Problems
) -> KaldiDir:
    """Note all problems within and between the files."""
    made = KaldiDir(path, tables)
    for name in ("wav.scp", "feats.scp"):
        if name in tables:
            checks.check_scp(tables[name], allow_pipes, problems)
    if "segments" in tables:
        made.segments = checks.parse_segments(tables["segments"], problems)
        if "wav.scp" in tables:
            checks.check_recordings(tables["segments"], made.segments, tables["wav.scp"], problems)
        else:
            missing = "is not there, but segments is"
            problems.add(path / "wav.scp", None, "missing", missing)
    if "text" in tables:
        checks.check_text(tables["text"], problems)
    if "utt2num_samples" in tables:
        checks.check_numbers(tables["utt2num_samples"], True, problems)
    if "utt2dur" in tables:
        checks.check_numbers(tables["utt2dur"], False, problems)
    if "utt2spk" in tables:
        warning = checks.check_speakers(tables["utt2spk"], problems)
        if warning:
            logger.warning("%s", warning)
        if "spk2utt" in tables:
            expected = checks.speakers_to_utterances(tables["utt2spk"])
            checks.check_spk2utt(tables["spk2utt"], expected, problems)
    elif "spk2utt" in tables:
        problems.add(path / "utt2spk", None, "missing", "is not there, but spk2utt is")
    by_utterance = _by_utterance(tables)
    if by_utterance:
        first, *others = by_utterance
        made.utterances = tables[first].keys
        for name in others:
            check_same_keys(tables[name], made.utterances, first, problems)
    return made


def _by_utterance(names: Iterable[str]) -> list[str]:
    """Return the files that have one line for each utterance, the authoritative one first."""
    order = ("utt2spk", "segments", "wav.scp", "feats.scp", "text", "utt2num_samples", "utt2dur")
    present = set(names)
    return [
        name for name in order if name in present and (name, "segments" in present) != _RECORDINGS
    ]


_RECORDINGS = ("wav.scp", True)  # beside segments, wav.scp has recordings


def _derived_spk2utt(path: Path, utt2spk: KaldiTable) -> KaldiTable:
    made = checks.speakers_to_utterances(utt2spk)
    return KaldiTable(path / "spk2utt", list(made), list(made.values()))


def _first_of_each(table: KaldiTable) -> dict[str, str]:
    files: dict[str, str] = {}
    for key, value in zip(table.keys, table.values, strict=True):
        if key:
            files.setdefault(key, value)
    return files


def _keep_common(files: dict[str, dict[str, str]]) -> None:
    """Leave out of all files what is not in all of them."""
    if "segments" in files and "wav.scp" in files:
        recordings = files["wav.scp"]
        files["segments"] = {
            u: v for u, v in files["segments"].items() if checks.recording_of(v) in recordings
        }
    names = _by_utterance(files)
    common = set.intersection(*(set(files[name]) for name in names)) if names else set()
    for name in names:
        files[name] = {key: value for key, value in files[name].items() if key in common}
    if "segments" in files and "wav.scp" in files:
        used = set(map(checks.recording_of, files["segments"].values()))
        files["wav.scp"] = {k: v for k, v in files["wav.scp"].items() if k in used}
