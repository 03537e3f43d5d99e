"""Publishing the arks of all shards as few large ones, the same whoever made which shard."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from espnet3.errors import DataError
from espnet3.utils.ark import SHARD_ARK, value_offset
from espnet3.utils.durable import fsync_path, replacing
from espnet3.utils.scp import check_scp_value

PART_BYTES = 1 << 30
"""A part is closed before the entry that would make it larger; an entry that is larger stands
alone."""


@dataclass
class _Part:
    """One ark to be published: stretches of shards' arks, in order.

    ``first`` and ``last`` are where the first and the last entry begin, and their utterances. With
    batches by length nearly every entry is a stretch, so these are kept as three numbers each.
    """

    size: int = 0
    arks: dict[Path, int] = field(default_factory=dict)
    """Ark -> its number."""
    numbers: array[int] = field(default_factory=lambda: array("Q"))
    """Of each stretch the ark's number, the first byte, and the end."""
    first: tuple[int, str] = (0, "")
    last: tuple[int, str] = (0, "")

    def add(self, utterance: str, ark: Path, begin: int, end: int) -> None:
        self.last = (self.size, utterance)
        self.first = self.first if self.numbers else self.last
        self.size += end - begin
        number = self.arks.setdefault(ark, len(self.arks))
        if self.numbers and self.numbers[-3] == number and self.numbers[-1] == begin:
            self.numbers[-1] = end
        else:
            self.numbers.extend((number, begin, end))

    def stretches(self) -> Iterator[tuple[Path, int, int]]:
        arks, numbers = [*self.arks], self.numbers
        for at in range(0, len(numbers), 3):
            yield arks[numbers[at]], numbers[at + 1], numbers[at + 2]


Entry = tuple[str, Path, int, int]
"""Utterance, ark of its shard, and first byte and end there."""


def publish_ark(entries: Iterable[Entry], name: str, run_dir: Path) -> None:
    """Publish a packed field: ``<field>/<field>.<N>.ark``, N from 1, and ``<field>.scp``.

    The entries stand as they are given, and a part ends where its size says, so that neither the
    bytes nor the names depend on how positions were spread over shards. The shards keep their own
    arks: the values are on disk twice. Parts that were published from the same shards before are
    not written again.

    Args:
        entries: Of all shards, see `entries_of`, in the order of the items.
        name: The field.
        run_dir: Where to publish.

    Raises:
        DataError: A shard's files do not fit each other; the scp stays as it was.
    """
    folder = run_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[_Part] = []
    with replacing(run_dir / f"{name}.scp") as scp:
        for utterance, ark, begin, end in entries:
            if not parts or (parts[-1].size and parts[-1].size + end - begin > PART_BYTES):
                parts.append(_Part())
            path = (folder / f"{name}.{len(parts)}.ark").as_posix()
            check_scp_value(path, utterance, name)
            scp.write(f"{utterance} {path}:{parts[-1].size + value_offset(utterance)}\n".encode())
            parts[-1].add(utterance, ark, begin, end)
        for number, part in enumerate(parts, start=1):
            _write_part(folder / f"{name}.{number}.ark", part)
        fsync_path(folder)
    _remove_others(len(parts), name, folder)


def entries_of(shard_dir: Path, name: str) -> Iterator[Entry]:
    """Yield the entries of a packed field in one shard, as they were written."""
    index, ark = shard_dir / f"{name}.scp", shard_dir / name / SHARD_ARK
    if not index.exists():
        return  # a shard without records
    with index.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            utterance, begin, end = line.split(" ")
            yield utterance, ark, int(begin), int(end)


def _write_part(path: Path, part: _Part) -> None:
    """Write one part, unless it is there already: a run of 100 GB may be merged again."""
    # A part has the time of the newest shard in it. That and the size tell whether it was made of
    # these shards, which never change once they are committed; but an utterance that has come to
    # an earlier part pushes all entries behind it on, and they may be of one size.
    made = max(ark.stat().st_mtime_ns for ark in part.arks)
    with suppress(FileNotFoundError):
        there = path.stat()
        same = (there.st_size, there.st_mtime_ns) == (part.size, made)
        if same and _begin_there(path, part.first, part.last):
            return
    with replacing(path) as target, ExitStack() as opened:
        now: Path | None = None
        for ark, begin, end in part.stretches():
            if ark != now:
                opened.close()
                source, now = opened.enter_context(ark.open("rb")), ark
            source.seek(begin)
            _copy(source, target, end - begin)
        target.flush()
        os.utime(target.fileno(), ns=(made, made))


def _begin_there(path: Path, *entries: tuple[int, str]) -> bool:
    """Whether the entries of these utterances begin at these places of an ark."""
    with path.open("rb") as ark:
        for begin, utterance in entries:
            ark.seek(begin)
            expected = f"{utterance} ".encode()
            if ark.read(len(expected)) != expected:
                return False
    return True


def _copy(source: BinaryIO, target: BinaryIO, n_bytes: int) -> None:
    while n_bytes:
        data = source.read(min(n_bytes, 1 << 20))
        if not data:
            raise DataError(f"{source.name} is shorter than the scp beside it says; decode again")
        target.write(data)
        n_bytes -= len(data)


def _remove_others(last: int, name: str, folder: Path) -> None:
    """Remove parts that an earlier, larger publication or a killed one has left."""
    for path in folder.iterdir():
        found = re.fullmatch(rf"\.?{re.escape(name)}\.(\d+)\.ark(\.\d+\.tmp)?", path.name)
        if found and (int(found[1]) > last or found[2]):
            path.unlink()
