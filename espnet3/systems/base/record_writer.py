"""Writing the records of one shard: ``<field>.scp`` lines, and files for what fits on no line."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from espnet3.errors import RecordRejected
from espnet3.systems.base.set_aside import SetAside
from espnet3.utils.ark import ShardArk, render_entry
from espnet3.utils.artifact_formats import ArtifactFormat
from espnet3.utils.artifacts import call_writer, is_tensor, render_artifact, write_bytes
from espnet3.utils.scp import check_scp_value, check_utt_id

FIELDS_FILE = "fields.json"

_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
# Names that mean something else in a run directory, where fields lie as files and directories.
_RESERVED = re.compile(
    r"(logs|lock|done|manifest|config|ledger|events|failures|metrics|fields)(\..*)?"
    r"|split\..*|.*\.(scp|trn)"
)
_STAGING = ".staging"


def why_no_field_name(name: object) -> str:
    """Return what is wrong with the name of an output field; empty if it can name files."""
    if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name):
        return (
            f"{name!r} cannot name an output field: it becomes a file name, of letters, digits and "
            "_ . - only, beginning with a letter or _"
        )
    if _RESERVED.fullmatch(name):
        return f"{name!r} cannot name an output field: the run directory uses that name itself"
    return ""


@dataclass
class _Field:
    """What one shard holds of one field."""

    handle: TextIO
    lines: int = 0
    kinds: set[str] = field(default_factory=set)
    ark: ShardArk | None = None
    missing: tuple[int, str] | None = None
    """The first record without this field: its number in the shard, and its utterance."""


class _Record:
    """One utterance, checked and ready to be written."""

    __slots__ = ("entries", "files", "lines", "utt_id")

    def __init__(self, utt_id: str) -> None:
        self.utt_id = utt_id
        self.lines: list[tuple[str, str, str]] = []
        """Field, text of its line (empty for an ark), kind (text, number, file or ark)."""
        self.entries: dict[str, bytes] = {}
        """Field -> entry of its ark."""
        self.files: list[tuple[Path, bytes]] = []


class RecordWriter:
    """Writes the records of one shard.

    Everything that can be wrong with a unit's records is found before anything of them is written,
    and shows as `RecordRejected`; an `OSError` is the disk's fault and passes through.

    Args:
        shard_dir: Where to write.
        run_dir: Where the files will be found once they are published; goes into the lines.
        idx_key: Key of the utterance id in a record.
        output_keys: The fields to write; None for all that a record has.
        formats: How values of a field become files, where the config says so.
    """

    def __init__(
        self,
        shard_dir: str | os.PathLike[str],
        run_dir: str | os.PathLike[str],
        idx_key: str = "utt_id",
        output_keys: Sequence[str] | None = None,
        formats: Mapping[str, ArtifactFormat] | None = None,
    ) -> None:
        self._shard_dir = Path(shard_dir).absolute()  # wherever user code changes to meanwhile
        self._run_dir = Path(run_dir)
        self._idx_key = idx_key
        self._id_place = f"output field {idx_key!r}"
        self._output_keys = list(dict.fromkeys(output_keys)) if output_keys else None
        self._formats = dict(formats or {})
        self._to_file = {name for name, how in self._formats.items() if how.takes_text}
        self.set_aside = SetAside(idx_key, self._output_keys, self._formats).copy_of
        """Makes of a result what another thread can give `write` later; None if none should."""
        self._names_for: dict[tuple[Any, ...], Sequence[str]] = {}
        self._fields: dict[str, _Field] = {}
        self._staged = False  # whether the user's own writers wrote something of this unit
        self._records = 0
        self._first_utterance: str | None = None

    def write(self, result: Any) -> None:
        """Write what ``forward`` returned for one unit: a record, or a list of records.

        Raises:
            RecordRejected: Naming the utterance and the field; nothing has been written then.
            OSError: Nothing is known about what has been written.
        """
        try:
            if type(result) is dict:
                records = [self._checked(result)]
            else:
                results = result if isinstance(result, (list, tuple)) else [result]
                records = [self._checked(output) for output in results]
        except BaseException:
            if self._staged:
                shutil.rmtree(self._shard_dir / _STAGING, ignore_errors=True)
                self._staged = False
            raise
        if self._staged:
            _move_tree(self._shard_dir / _STAGING, self._shard_dir)
            self._staged = False
        for record in records:
            for path, data in record.files:
                write_bytes(path, data)
        for record in records:
            self._append(record)

    def close(self) -> None:
        """Close the files and write ``fields.json``, which is what the merge goes by."""
        with ExitStack() as stack:
            for entry in self._fields.values():
                stack.callback(entry.handle.close)
                if entry.ark is not None:
                    stack.callback(entry.ark.close)
        summary = {
            "records": self._records,
            "first_utterance": self._first_utterance,
            "fields": {
                name: {"lines": f.lines, "kinds": sorted(f.kinds), "missing": f.missing}
                for name, f in sorted(self._fields.items())
            },
        }
        write_bytes(self._shard_dir / FIELDS_FILE, json.dumps(summary).encode() + b"\n")

    def _checked(self, output: Any) -> _Record:
        if not isinstance(output, dict):
            raise RecordRejected(
                f"forward returned {type(output).__name__}, not a dict of output fields for each "
                "utterance"
            )
        raw_id = output.get(self._idx_key)
        if raw_id is None:
            raise RecordRejected(
                f"the record has no utterance id under {self._idx_key!r} (fields: "
                f"{_names(output)}); a forward of your own returns it with every record"
            )
        utt_id = check_utt_id(raw_id, self._id_place)
        record, lines = _Record(utt_id), []
        for name in self._selected(output, utt_id):
            value = output[name]
            if type(value) is str and value.isprintable() and name not in self._to_file:
                lines.append((name, value, "text"))  # the common case, checked in one step
            else:
                lines.append(self._line(record, name, value))
        record.lines = lines
        return record

    def _selected(self, output: Mapping[Any, Any], utt_id: str) -> Sequence[str]:
        """Return the fields to write; worked out once for all records with the same keys."""
        keys = tuple(output)
        names = self._names_for.get(keys)
        if names is not None:
            return names
        names = self._output_keys or [key for key in keys if key != self._idx_key]
        missing = [name for name in names if name not in output]
        if missing:
            raise RecordRejected(
                f"utterance {utt_id!r}: output_keys names {_names(missing)}, but the output has "
                f"only {_names(output)}"
            )
        if not names:
            raise RecordRejected(f"utterance {utt_id!r}: the output has no field beside its id")
        problem = next(filter(None, map(why_no_field_name, names)), "")
        if problem:
            raise RecordRejected(f"utterance {utt_id!r}: {problem}")
        self._names_for[keys] = names
        return names

    def _line(self, record: _Record, name: str, value: Any) -> tuple[str, str, str]:
        """Return the line of a field that is not simply a printable text."""
        where = f"utterance {record.utt_id!r}, field {name!r}"
        how = self._formats.get(name, ArtifactFormat())
        if how.type == "ark":
            _refuse_text(name, where)
            record.entries[name] = render_entry(record.utt_id, value, how, where)
            return name, "", "ark"
        value = _unwrapped(value)
        if isinstance(value, str) and name not in self._to_file:
            return name, check_scp_value(str.__str__(value), record.utt_id, name), "text"
        if isinstance(value, (bool, int, float)):
            return name, str(value), "number"
        if value is None:
            raise RecordRejected(
                f'{where}: the value is None; return an empty text "" or leave the item out'
            )
        if isinstance(value, (list, tuple)):
            raise RecordRejected(
                f"{where}: a {type(value).__name__} is no single value; return a dict, which is "
                "stored as JSON, an array, or one field per element"
            )
        path = self._to_artifact(record, name, value, how, where)
        return name, check_scp_value(path.as_posix(), record.utt_id, name), "file"

    def _to_artifact(
        self, record: _Record, name: str, value: Any, how: ArtifactFormat, where: str
    ) -> Path:
        """Prepare the file for a value; return where it will be published."""
        _refuse_text(name, where)
        if how.writer is None:
            suffix, data = render_artifact(value, how, where)
            relative = Path(name) / f"{record.utt_id}{suffix}"
            record.files.append((self._shard_dir / relative, data))
        else:
            staging = self._shard_dir / _STAGING
            base = staging / name / record.utt_id
            self._staged = True
            base.parent.mkdir(parents=True, exist_ok=True)
            written = call_writer(value, base, how, where, inside=base.parent)
            relative = written.resolve().relative_to(staging.resolve())
        return self._run_dir / relative

    def _append(self, record: _Record) -> None:
        for name, text, kind in record.lines:
            entry = self._fields.get(name)
            if entry is None:
                entry = self._open(name)
            if kind == "ark":  # the line says where in this shard's ark; merge, where in the end
                entry.ark = entry.ark or ShardArk(self._shard_dir, name)
                text = entry.ark.add(record.entries[name])
            entry.handle.write(f"{record.utt_id} {text}\n")
            entry.lines += 1
            entry.kinds.add(kind)
        if self._records == 0:
            self._first_utterance = record.utt_id
        if len(record.lines) != len(self._fields):
            present = {name for name, _, _ in record.lines}
            for name, entry in self._fields.items():
                if name not in present and entry.missing is None:
                    entry.missing = (self._records, record.utt_id)
        self._records += 1

    def _open(self, name: str) -> _Field:
        path = self._shard_dir / f"{name}.scp"
        handle = path.open("w", encoding="utf-8", newline="\n", buffering=1 << 18)
        entry = self._fields[name] = _Field(handle)
        if self._first_utterance is not None:  # the records before this one had no such field
            entry.missing = (0, self._first_utterance)
        return entry


def _unwrapped(value: Any) -> Any:
    """Return the Python value of NumPy scalars, and of 0-d arrays and CPU tensors."""
    if isinstance(value, np.generic):
        return value.item()
    is_array = isinstance(value, np.ndarray) or is_tensor(value)
    if is_array and len(value.shape) == 0 and str(getattr(value, "device", "cpu")) == "cpu":
        return value.item()
    return value


def _refuse_text(name: str, where: str) -> None:
    if name == "text":
        # Its directory would take the place of Kaldi's file of that name.
        raise RecordRejected(f"{where}: a field called 'text' holds text only; name it otherwise")


def _move_tree(source: Path, target: Path) -> None:
    for root, _, files in os.walk(source):
        folder = target / Path(root).relative_to(source)
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            os.replace(Path(root) / name, folder / name)
    shutil.rmtree(source)


def _names(names: Iterable[Any]) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"
