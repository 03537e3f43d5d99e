"""Manifests: one table of utterances, as TSV with a header or as JSON lines.

A config can name one as a data set without any code of its own::

    dataset:
      test:
        - name: test
          data_src: espnet3.components.data.manifest
          data_src_args: {path: data/test.tsv}

Columns that mean something: ``utt_id``, ``audio`` (path, relative to the manifest), ``text``,
``seconds`` or ``duration`` of the utterance, ``start`` and ``end`` in the audio file (seconds). All
others are handed on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from espnet3.components.data.audio.read import Channel
from espnet3.components.data.base_dataset import BaseDataset
from espnet3.components.data.kaldi.checks import is_pipe
from espnet3.components.data.kaldi.values import read_audio_value
from espnet3.components.data.problems import Problems, decoded
from espnet3.errors import ConfigError, DataError
from espnet3.utils import durable

Row = dict[str, Any]

_REQUIRED = ("utt_id", "audio")
_NUMBERS = ("seconds", "duration", "start", "end")


def read_manifest(path: str | Path) -> list[Row]:
    """Read and check a manifest; ``.jsonl`` is JSON lines, ``.tsv`` has a header line.

    Returns:
        The rows in file order. ``seconds``, ``duration``, ``start`` and ``end`` are numbers, other
        TSV columns text; an empty one of those four in a TSV is left out of its row.

    Raises:
        DataError: With every problem, its file and line; of many alike the first ones.
        ConfigError: The name ends in something else.
        OSError: The file cannot be read.
    """
    path, problems = Path(path), Problems()
    parse = {".tsv": _parse_tsv, ".jsonl": _parse_jsonl}.get(path.suffix)
    if parse is None:
        raise ConfigError(f"{path}: a manifest is a .tsv or .jsonl file")
    rows = parse(path, decoded(path.read_bytes(), path, problems), problems)
    _check(path, rows, problems)
    problems.raise_if_any(f"{path} is no valid manifest")
    return [row for _, row in rows]


def write_manifest(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest in the given order: the whole file in one step, or nothing.

    Args:
        path: ``.tsv`` or ``.jsonl``.
        rows: With ``utt_id`` and ``audio``. For TSV all have the same keys; the first row's order
            is that of the columns.

    Raises:
        DataError: `read_manifest` would refuse it, or a TSV field holds a tab or a line break.
    """
    path, problems = Path(path), Problems()
    given = [dict(row) for row in rows]
    if path.suffix == ".jsonl":
        lines = _json_lines(path, given, problems)
        numbered = list(enumerate(given, start=1))
    elif path.suffix == ".tsv":
        lines = _tsv_lines(path, given, problems)
        numbered = list(enumerate(given, start=2))
    else:
        raise ConfigError(f"{path}: a manifest is a .tsv or .jsonl file")
    _check(path, numbered, problems)
    problems.raise_if_any(f"{path}: nothing was written")
    durable.replace(path, "".join(f"{line}\n" for line in lines).encode())


class ManifestDataset(BaseDataset):
    """The utterances of a manifest, in its order.

    An item has ``utt_id``, ``speech`` (float32 array of shape (samples,), full scale at 1.0),
    ``sample_rate`` (Hz) and all columns but ``audio``, ``start`` and ``end``. ``durations()`` is
    there if every row has ``seconds`` (or ``duration``), or ``start`` and ``end``.

    Args:
        path: The manifest.
        channel: From 0, or ``mean``, for recordings with several channels.

    Raises:
        DataError: The manifest is not valid.
    """

    thread_safe = True  # every item opens its own file

    def __init__(self, path: str | Path, channel: Channel = None) -> None:
        self._path = Path(path)
        self._rows = read_manifest(path)
        self._channel = channel
        self._seconds = [_seconds(row) for row in self._rows]
        self._lengths_known = None not in self._seconds

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._rows[index]
        audio, start, end = (row.get(key) for key in ("audio", "start", "end"))
        value = str(self._path.parent / str(audio))
        try:
            speech, rate = read_audio_value(value, start, end, self._channel)
        except DataError as error:
            raise DataError(f"utterance {row['utt_id']!r}: {error}") from error
        others = {key: v for key, v in row.items() if key not in ("audio", "start", "end")}
        return {**others, "speech": speech, "sample_rate": rate}

    def utt_id(self, index: int) -> str:
        """Return an utterance's id."""
        return str(self._rows[index]["utt_id"])

    def column(self, name: str) -> list[Any]:
        """Return one column; `KeyError` if it is not an item's, or some rows lack it."""
        if name in ("audio", "start", "end", "speech", "sample_rate"):
            raise KeyError(name)
        return [row[name] for row in self._rows]

    def fingerprint(self) -> str:
        """Return a digest of the rows, but not of the samples."""
        digest = hashlib.sha256()
        for row in self._rows:
            digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        return digest.hexdigest()

    def __getattr__(self, name: str) -> Any:
        # Wrappers ask with hasattr, an unpickled object that is still empty included.
        if name == "durations" and self.__dict__.get("_lengths_known"):
            return self._durations
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _durations(self) -> list[float]:
        return [seconds for seconds in self._seconds if seconds is not None]


Dataset = ManifestDataset  # the name under which a config's `data_src` finds it


def _seconds(row: Row) -> float | None:
    for key in ("seconds", "duration"):
        if row.get(key) is not None:
            return float(row[key])
    if row.get("end") is None:
        return None
    return float(row["end"] - (row.get("start") or 0.0))


def _parse_tsv(path: Path, text: str, problems: Problems) -> list[tuple[int, Row]]:
    lines = text.removesuffix("\n").split("\n")
    header = lines[0].split("\t")
    if len(set(header)) != len(header) or "" in header:
        problems.add(path, 1, "header", "the header has an empty column, or one twice")
    for name in _REQUIRED:
        if name not in header:
            problems.add(path, 1, "header", f"the header has no column {name!r}; it has {header}")
    if "\r" in text:
        number = text.count("\n", 0, text.index("\r")) + 1
        problems.add(path, number, "line ends", "holds a carriage return; lines end in \\n alone")
    numbers = [name for name in _NUMBERS if name in header]
    rows: list[tuple[int, Row]] = []
    if problems:
        return rows
    for number, line in enumerate(lines[1:], start=2):
        values = line.split("\t")
        if len(values) != len(header):
            text = f"{len(values)} fields under {len(header)} column names"
            problems.add(path, number, "fields", text)
            continue
        row: Row = dict(zip(header, values, strict=True))
        for name in numbers:
            if not row[name]:
                del row[name]
                continue
            with suppress(ValueError):  # noted with the others that are no numbers
                row[name] = float(row[name])
        rows.append((number, row))
    return rows


def _parse_jsonl(path: Path, text: str, problems: Problems) -> list[tuple[int, Row]]:
    rows: list[tuple[int, Row]] = []
    if not text:
        return rows
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            problems.add(path, number, "JSON", f"no JSON: {error}")
            continue
        if isinstance(row, dict):
            rows.append((number, row))
        else:
            problems.add(path, number, "object", f"no JSON object but {line[:60]}")
    return rows


def _check(path: Path, rows: list[tuple[int, Row]], problems: Problems) -> None:
    first: dict[str, int] = {}
    for number, row in rows:
        for name in _REQUIRED:
            value = row.get(name)
            if not isinstance(value, str) or not value or value != value.strip():
                text = f"{name} is {value!r}, not text without white space around it"
                problems.add(path, number, name, text)
        utt_id, audio = row.get("utt_id"), row.get("audio")
        if isinstance(utt_id, str) and first.setdefault(utt_id, number) != number:
            text = f"utt_id {utt_id!r} is already on line {first[utt_id]}"
            problems.add(path, number, "twice", text)
        if isinstance(audio, str) and is_pipe(audio):
            problems.add(path, number, "pipe", f"{utt_id!r}: audio is a file, not a pipe: {audio}")
        _check_times(path, number, row, problems)


def _check_times(path: Path, number: int, row: Row, problems: Problems) -> None:
    for name in _NUMBERS:
        value = row.get(name)
        if value is None:
            continue
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value < math.inf:
            text = f"{name} is {value!r}, not a number of seconds"
            problems.add(path, number, name, text)
            return
    end = row.get("end")
    if end is not None and not (row.get("start") or 0.0) < end:
        text = f"end {end} is not behind start {row.get('start')}"
        problems.add(path, number, "end", text)


def _json_lines(path: Path, rows: list[Row], problems: Problems) -> list[str]:
    lines = []
    for number, row in enumerate(rows, start=1):
        try:
            lines.append(json.dumps(row, ensure_ascii=False))
        except (TypeError, ValueError) as error:
            problems.add(path, number, "JSON", f"JSON cannot hold it: {error}")
    return lines


def _tsv_lines(path: Path, rows: list[Row], problems: Problems) -> list[str]:
    header = list(rows[0]) if rows else list(_REQUIRED)
    lines = ["\t".join(header)]
    for number, row in enumerate(rows, start=2):
        if row.keys() != set(header):
            text = f"has the columns {', '.join(row)}, not those of the first row"
            problems.add(path, number, "columns", text)
            continue
        values = ["" if row[name] is None else str(row[name]) for name in header]
        lines.append("\t".join(values))
        if any(sign in value for value in [*values, *header] for sign in "\t\n\r"):
            text = "a field holds a tab or a line break, which a TSV cannot; .jsonl can"
            problems.add(path, number, "tab", text)
    return lines
