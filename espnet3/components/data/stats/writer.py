"""What one shard of a ``collect_stats`` run holds.

For each name ``<name>_shape``, Kaldi text; for each feature ``<name>.<D>.f64``, one row of float64
for each utterance (`StatsRecord.rows`); the features packed in ``collect_feats/``, if they are
written; and a summary.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from espnet3.components.data.stats.features import Array
from espnet3.components.data.stats.record import Shape, StatsRecord
from espnet3.errors import RecordRejected
from espnet3.utils.ark import ShardArk, render_entry
from espnet3.utils.artifact_formats import ArtifactFormat
from espnet3.utils.scp import check_utt_id

SUMMARY_FILE = "stats.json"
COLLECTED = "collect_feats"

_ONE_KIND = "statistics need one kind of all, so mend the one that is wrong"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")


@dataclass
class NameSummary:
    """What a shard holds of one field or feature.

    Attributes:
        lines: How many utterances have it: all of the shard.
        is_feature: Whether it is a feature.
        dims: The shape of a feature's frame, ``80`` or ``4x20``.
    """

    lines: int = 0
    is_feature: bool = False
    dims: str = ""


class StatsWriter:
    """Writes the records of one shard.

    What can be wrong with the records of a unit is found before anything of them is written.

    Args:
        shard_dir: Where to write.

    Raises:
        OSError: From any method; nothing is known then about what has been written.
    """

    def __init__(self, shard_dir: Path) -> None:
        self._shard_dir = shard_dir
        self._names: dict[str, NameSummary] = {}
        self._files: dict[str, BinaryIO] = {}
        self._arks: dict[str, ShardArk] = {}
        self._close = ExitStack()
        self._records = 0
        self._first: StatsRecord | None = None

    def write(self, result: StatsRecord | Sequence[StatsRecord]) -> None:
        """Write the record of a unit, or its records.

        Raises:
            RecordRejected: An id or a name cannot be one, an ark cannot hold a feature, or the
                record is of another kind than the first one of the shard.
        """
        records = [result] if isinstance(result, StatsRecord) else result
        for record in records:
            _check(record)
            _check_alike(record, self._first or records[0])
        entries = [_entries_of(record) for record in records]
        for record, of_arrays in zip(records, entries, strict=True):
            self._write_one(record, of_arrays)

    def close(self) -> None:
        """Finish the shard."""
        self._close.close()
        summary = {
            "records": self._records,
            "names": {name: asdict(entry) for name, entry in self._names.items()},
            "first_utterance": "" if self._first is None else self._first.utt_id,
        }
        (self._shard_dir / SUMMARY_FILE).write_text(json.dumps(summary), encoding="utf-8")

    def _write_one(self, record: StatsRecord, entries: Mapping[str, bytes]) -> None:
        shapes = {**record.fields, **record.features}
        for name, shape in shapes.items():
            entry = self._names.setdefault(name, NameSummary())
            line = f"{record.utt_id} {','.join(map(str, shape))}\n"
            self._file(f"{name}_shape").write(line.encode())
            entry.lines += 1
            if name in record.rows:
                entry.is_feature = True
                entry.dims = dims_text(shape[1:])
                self._file(rows_file(name, entry.dims)).write(record.rows[name].tobytes())
        for name, entry_bytes in entries.items():
            self._write_entry(name, record.utt_id, entry_bytes)
        self._records += 1
        self._first = self._first or record

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            path = self._shard_dir / name
            path.parent.mkdir(exist_ok=True)
            self._files[name] = self._close.enter_context(path.open("wb"))
        return self._files[name]

    def _write_entry(self, name: str, utt_id: str, entry: bytes) -> None:
        if name not in self._arks:
            self._arks[name] = ShardArk(self._shard_dir / COLLECTED, name)
            self._close.callback(self._arks[name].close)
        line = f"{utt_id} {self._arks[name].add(entry)}\n"
        self._file(f"{COLLECTED}/{name}.scp").write(line.encode())


def dims_text(dims: Shape) -> str:
    """The shape of one frame in the name of a file: ``80``, ``4x20``, ``scalar``."""
    return "x".join(map(str, dims)) or "scalar"


def dims_of(text: str) -> Shape:
    """The reverse of `dims_text`."""
    return () if text == "scalar" else tuple(map(int, text.split("x")))


def rows_file(name: str, dims: str) -> str:
    """Name of the file with a feature's rows."""
    return f"{name}.{dims}.f64"


def _check(record: StatsRecord) -> None:
    utt_id = check_utt_id(record.utt_id, "collect_stats")
    for name in (*record.fields, *record.features):
        if not _NAME.fullmatch(name):
            raise RecordRejected(
                f"utterance {utt_id!r}: {name!r} cannot name a field or feature: it becomes a file "
                "name, of letters, digits and _ - only, beginning with a letter or _"
            )
    for name, array in record.arrays.items():
        if array.ndim > 2:
            raise RecordRejected(
                f"utterance {utt_id!r}: {name} has shape {array.shape}, but an ark file holds "
                "vectors and matrices; leave out collect_stats.write_collected_feats"
            )


def _check_alike(record: StatsRecord, first: StatsRecord) -> None:
    """Compare an utterance with the first one of its shard; shards are compared in the end."""
    pair = f"utterance {record.utt_id!r}", f"utterance {first.utt_id!r}"
    names, others = ({**one.fields, **one.features} for one in (record, first))
    for name in sorted(names.keys() ^ others.keys()):
        has, lacks = pair if name in names else reversed(pair)
        raise RecordRejected(f"{pair[0]}: {has} has {name!r}, and {lacks} has not; {_ONE_KIND}")
    for name in record.rows.keys() & first.rows.keys():
        here, there = (dims_text(one.features[name][1:]) for one in (record, first))
        if here != there:
            raise RecordRejected(
                f"{pair[0]}: {name!r} has frames of {here}, and of {there} in {pair[1]}; "
                f"{_ONE_KIND}"
            )


def _entries_of(record: StatsRecord) -> dict[str, bytes]:
    how = ArtifactFormat("ark")
    where = f"utterance {record.utt_id!r}, feature"
    return {
        name: render_entry(record.utt_id, _as_floats(array), how, f"{where} {name!r}")
        for name, array in record.arrays.items()
    }


def _as_floats(array: Array) -> Array:
    """Whole numbers as float32, which is what an ark holds."""
    return array if array.dtype.kind == "f" else array.astype(np.float32)
