"""The ledger: `ledger.<epoch>.jsonl`, the only source of truth about a run.

One line per accepted shard and per failed position, appended and fsynced by the owner alone.
Every start of a driver makes the next epoch's file, whose first line says how many bytes of each
older file count; what a former owner appends to its own file later is never read. An owner that
finds a newer epoch stops before it writes another line, so a wrongly presumed death is harmless.
"""

import errno
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from espnet3.errors import LedgerError, OwnershipLost
from espnet3.parallel.engine.coverage import Coverage
from espnet3.parallel.engine.disk import explained
from espnet3.parallel.engine.files import LEDGER, LEDGER_NAME
from espnet3.utils import durable

VERSION = 1
_WAYS_ON = "Nothing was changed. Use another output_dir, or `run: {resume: false}` to start over."


def ledger_path(run_dir: Path, epoch: int) -> Path:
    """Path of one epoch's ledger."""
    return run_dir / LEDGER.format(epoch=epoch)


def find_epochs(run_dir: Path) -> list[int]:
    """Epochs that have a ledger in `run_dir`, oldest first."""
    if not run_dir.is_dir():
        return []
    names = (LEDGER_NAME.fullmatch(name) for name in os.listdir(run_dir))
    return sorted(int(match[1]) for match in names if match)


def read_coverage(run_dir: Path, run_id: str) -> Coverage:
    """The state of a run as its ledgers tell it; never writes, needs no lock.

    Args:
        run_dir: the run directory.
        run_id: of its manifest; ledgers of another run in the same directory do not count.

    Raises:
        LedgerError: if a ledger is damaged before its last line.
    """
    return _replay(run_dir, _valid_bytes(run_dir, run_id))


def _replay(run_dir: Path, valid: Mapping[int, int]) -> Coverage:
    coverage = Coverage()
    for epoch, size in valid.items():
        path = ledger_path(run_dir, epoch)
        for number, line in enumerate(_lines(path, size), start=1):
            entry = _parse(line)
            if entry is None:
                raise LedgerError(f"{path}, line {number} is damaged. {_WAYS_ON}")
            try:
                if entry["kind"] != "epoch":
                    coverage.apply(entry)
            except (LedgerError, KeyError, TypeError) as error:
                raise LedgerError(f"{path}, line {number}: {error}. {_WAYS_ON}") from error
    return coverage


class Ledger:
    """The open ledger of this epoch. Only the owner of the run directory makes one."""

    def __init__(self, run_dir: Path, epoch: int, coverage: Coverage) -> None:
        self.run_dir = run_dir
        self.epoch = epoch
        self.coverage = coverage
        self._path = ledger_path(run_dir, epoch)
        self._file = self._path.open("ab", buffering=0)
        self._next = ledger_path(run_dir, epoch + 1)
        self._flushed = True

    @classmethod
    def open_next_epoch(
        cls, run_dir: Path, run_id: str, owner: Mapping[str, Any], check: Callable[[], None]
    ) -> Self:
        """Start the next epoch and replay the older ones.

        Args:
            run_dir: an existing directory.
            run_id: of the manifest.
            owner: who starts (host, pid...), kept in the first line for people.
            check: raises OwnershipLost if another driver has the lock by now.

        Raises:
            OwnershipLost: if another driver has taken over, or starts the same epoch just now.
            LedgerError: if an older ledger is damaged before its last line.
        """
        older = _valid_bytes(run_dir, run_id)
        # A dead owner may not have come to flush its last lines; the header counts on them.
        for epoch in older:
            durable.fsync_path(ledger_path(run_dir, epoch))
        # Of these bytes and no others: a former owner may be writing at this moment.
        coverage = _replay(run_dir, older)
        epoch = max(find_epochs(run_dir), default=0) + 1
        header = {
            "kind": "epoch",
            "version": VERSION,
            "run_id": run_id,
            "epoch": epoch,
            "older": {str(e): size for e, size in older.items()},
            "time": time.time(),
            **owner,
        }
        # Whoever takes over before this line is noticed by it; whoever does so later wants the same
        # number, which one of the two gets, or sees it taken.
        check()
        try:
            durable.write_new(ledger_path(run_dir, epoch), _line(header))
        except FileExistsError as error:
            raise OwnershipLost(f"another driver has just started on {run_dir}") from error
        return cls(run_dir, epoch, coverage)

    def append(self, *entries: Mapping[str, Any]) -> None:
        """Write entries and take them into `coverage`; `flush` makes them durable.

        Between the two a crash loses nothing: a shard without its line is an offer to the next
        owner, and a failed position without its line is tried again.

        Raises:
            OwnershipLost: if a newer epoch exists; nothing was written.
            RunStopped: if the disk is full or gone; the coverage is unchanged.
        """
        if self._next.exists() or not self._is_in_place():
            self.check_owner()
        for entry in entries:
            if entry["kind"] == "shard" and not self.coverage.can_accept(
                entry["first"], entry["last"] + 1
            ):  # written down, it would damage the ledger for good
                raise LedgerError(f"{entry['dir']} overlaps positions that are finished or failed")
        with explained(self._path):
            self._write(b"".join(_line(entry) for entry in entries))
        self._flushed = False
        for entry in entries:
            self.coverage.apply(entry)

    def _write(self, data: bytes) -> None:
        start = self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(data)
            if written != len(data):
                what = f"only {written} of {len(data)} bytes could be written"
                raise OSError(errno.ENOSPC, what)
        except OSError:
            self._file.truncate(start)  # else a torn line would stand before the next one
            raise

    def flush(self) -> None:
        """Bring what was appended to disk.

        Raises:
            RunStopped: if the disk fails.
        """
        if not self._flushed:
            with explained(self._path):
                os.fsync(self._file.fileno())
            self._flushed = True

    def check_owner(self) -> None:
        """Make sure that no newer epoch exists; asks the directory itself, not a cache of names.

        Raises:
            OwnershipLost: if one does.
        """
        newest = max(find_epochs(self.run_dir), default=0)
        if newest > self.epoch:
            raise OwnershipLost(
                f"{self.run_dir} was taken over by another driver (start {newest}, this is "
                f"{self.epoch}); this one stops without touching it"
            )
        if not self._is_in_place():
            raise OwnershipLost(
                f"{self._path} was removed while this driver was at work, so the directory may be "
                "another run's now; this one stops without touching it"
            )

    def _is_in_place(self) -> bool:
        """Whether the open file is still the one that its name means."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except OSError:
            return False

    def close(self) -> None:
        """Flush and close the file; the ledger stays on disk."""
        try:
            self.flush()
        finally:
            with explained(self._path):
                self._file.close()


def _valid_bytes(run_dir: Path, run_id: str) -> dict[int, int]:
    """How many bytes of each epoch's file count for this run, oldest first.

    The newest one of this run says it. Newer ones may be of another run that was begun since, if
    this one's manifest was put back.
    """
    for epoch in reversed(find_epochs(run_dir)):
        path = ledger_path(run_dir, epoch)
        lines, size = _sound_lines(path)
        if not lines:
            continue  # torn at birth: its owner never wrote a line that counts
        header = lines[0]
        if header.get("run_id") != run_id:
            continue
        if header["kind"] != "epoch" or header.get("version") != VERSION:
            raise LedgerError(f"{path} is not a ledger of version {VERSION}. {_WAYS_ON}")
        valid = {int(e): n for e, n in header["older"].items()}
        valid[epoch] = size
        return dict(sorted(valid.items()))
    return {}


def _sound_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The newest ledger's lines up to the first bad one, and how many bytes they are.

    Ending there is safe: what is cut off returns as offers, or is done again.
    """
    entries: list[dict[str, Any]] = []
    size = 0
    for line in path.read_bytes().splitlines(keepends=True):
        entry = _parse(line) if line.endswith(b"\n") else None
        if entry is None:
            break
        entries.append(entry)
        size += len(line)
    return entries, size


def _lines(path: Path, size: int) -> list[bytes]:
    try:
        data = path.read_bytes()[:size]
    except FileNotFoundError as error:
        raise LedgerError(f"{path} is missing, a newer ledger counts on it. {_WAYS_ON}") from error
    if len(data) < size:
        raise LedgerError(
            f"{path} has {len(data)} bytes, a newer ledger counts on {size}. {_WAYS_ON}"
        )
    return data.splitlines()


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "kind" in entry else None
