"""Publishing what the shards of an inference run hold: checked as a whole first, then written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from espnet3.errors import DataError
from espnet3.parallel.base_runner import concatenate_shard_files
from espnet3.parallel.engine.order import Order
from espnet3.parallel.in_order import in_order, order_of_shards
from espnet3.systems.base.record_writer import FIELDS_FILE
from espnet3.utils.ark_merge import entries_of, publish_ark
from espnet3.utils.durable import fsync_path, replacing
from espnet3.utils.unique_ids import first_repeat


@dataclass(frozen=True)
class _Shard:
    """What one shard says of itself; `first` is its first place in the run's order."""

    path: Path
    first: int
    records: int
    first_utterance: str
    fields: dict[str, dict[str, Any]]


def publish(shard_dirs: Sequence[Path], run_dir: Path, hypothesis_keys: Sequence[str] = ()) -> None:
    """Publish the records of all shards in `run_dir`.

    Written are ``<field>.scp`` with one line for each position, in order; ``<field>/`` with the
    files that the lines name, as hard links where the file system has them, or the arks that the
    values were packed into (see `publish_ark`); ``text`` (Kaldi's) and
    ``hyp.trn`` (sclite's) of the hypothesis, see `hypothesis_field`; ``ref.trn`` of a field called
    ``ref``. Each file is replaced in one step. The bytes do not depend on how positions were
    spread over shards, nor on the order in which they were done. Ids are held in memory while they
    are checked (8 bytes each), values never.

    Args:
        shard_dirs: By position.
        run_dir: Where to publish.
        hypothesis_keys: Fields that were declared to be hypotheses.

    Raises:
        DataError: A field is missing in some records, an utterance id comes twice, or a shard is
            not what its writer left. Nothing has been published then.
    """
    shards = _read_shards(shard_dirs)
    kinds = _kinds(shards)
    paths = [shard.path for shard in shards]
    _check_fields(shards, kinds, order_of_shards(paths))
    if not kinds:
        return
    _check_ids(shards, min(kinds))
    run_dir.mkdir(parents=True, exist_ok=True)
    for name, its_kinds in kinds.items():
        if "file" in its_kinds:
            _publish_files(paths, name, run_dir)
    for name, its_kinds in kinds.items():
        if "ark" in its_kinds:
            publish_ark(in_order(paths, partial(entries_of, name=name)), name, run_dir)
        else:
            _write_scp(paths, name, run_dir / f"{name}.scp")
    hypothesis = hypothesis_field(kinds, hypothesis_keys)
    if hypothesis is not None:
        _write_scp(paths, hypothesis, run_dir / "text")
        _write_trn(paths, hypothesis, run_dir / "hyp.trn")
    if kinds.get("ref") == {"text"}:
        _write_trn(paths, "ref", run_dir / "ref.trn")
    fsync_path(run_dir)


def hypothesis_field(kinds: dict[str, set[str]], declared: Sequence[str]) -> str | None:
    """Return the field that Kaldi's ``text`` is made of, or None.

    It holds nothing but text: the only declared one, else ``hyp``, else ``text``.
    """
    candidates = [*(declared if len(declared) == 1 else ()), "hyp", "text"]
    return next((name for name in candidates if kinds.get(name) == {"text"}), None)


def _read_shards(shard_dirs: Sequence[Path]) -> list[_Shard]:
    shards: list[_Shard] = []
    for path in map(Path, shard_dirs):
        try:
            summary = json.loads((path / FIELDS_FILE).read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path / FIELDS_FILE}: cannot be read ({error}). A runner that overrides "
                "open_writers, write_record or close_writers overrides merge as well, or calls "
                "theirs."
            ) from error
        records = int(summary["records"])
        done = _done_record(path)
        after_last = shards[-1].first + shards[-1].records if shards else 0
        first = int(done.get("first", after_last))
        n_positions = int(done["last"]) - first + 1 if "last" in done else records
        if records != n_positions:
            raise DataError(
                f"{path}: {records} records for {n_positions} items; forward returns one record "
                "for each item"
            )
        shards.append(
            _Shard(path, first, records, summary["first_utterance"] or "", summary["fields"])
        )
    return shards


def _done_record(path: Path) -> dict[str, Any]:
    """Return the engine's note on a committed shard; {} where there is none."""
    with suppress(OSError, ValueError):
        record = json.loads((path / "done").read_bytes())
        if isinstance(record, dict):
            return record
    return {}


def _kinds(shards: Sequence[_Shard]) -> dict[str, set[str]]:
    """Return field -> kinds of its values (text, number, file, ark), in alphabetical order."""
    kinds: dict[str, set[str]] = {}
    for shard in shards:
        for name, entry in shard.fields.items():
            kinds.setdefault(name, set()).update(entry["kinds"])
    for name, its_kinds in kinds.items():
        if "ark" in its_kinds and len(its_kinds) > 1:
            raise DataError(
                f"field {name!r} is packed into an ark in some shards only: output_artifacts has "
                "changed meanwhile. Decode again with resume: false. Nothing was published."
            )
    return dict(sorted(kinds.items()))


def _check_fields(shards: Sequence[_Shard], names: Iterable[str], order: Order) -> None:
    """Refuse a field that some records lack, naming the first of them."""
    for name in names:
        for shard in shards:
            entry = shard.fields.get(name, {"missing": (0, shard.first_utterance)})
            if not shard.records or not entry["missing"]:
                continue
            number, utterance = entry["missing"]
            have = sum(s.fields[name]["lines"] for s in shards if name in s.fields)
            position = order.position(shard.first + number)
            raise DataError(
                f"field {name!r} is missing for utterance {utterance!r} (position "
                f"{position}); {have} of {sum(s.records for s in shards)} records have "
                "it. Return it for every utterance, or leave it out with output_keys, and decode "
                "again with resume: false. Nothing was published."
            )


def _check_ids(shards: Sequence[_Shard], field: str) -> None:
    """Refuse an utterance id that comes twice, naming both positions."""
    repeat = first_repeat(lambda: _ids(shards, field))
    n_records = sum(shard.records for shard in shards)
    if repeat.n_ids != n_records:
        raise DataError(
            f"{field}.scp has {repeat.n_ids} lines in all shards, but {n_records} were written; "
            f"the shards in {shards[0].path.parent} have been changed"
        )
    if repeat.utt_id is None:
        return
    order = order_of_shards([shard.path for shard in shards])
    places = (range(shard.first, shard.first + shard.records) for shard in shards)
    positions = sorted(order.position(place) for some in places for place in some)
    raise DataError(
        f"utterance id {repeat.utt_id!r} comes twice, at positions {positions[repeat.first]} and "
        f"{positions[repeat.again]}; nothing was published. Give every utterance an id of its own "
        "and decode again with resume: false."
    )


def _ids(shards: Sequence[_Shard], field: str) -> Iterator[bytes]:
    for line in _lines([shard.path for shard in shards], field):
        yield line.partition(b" ")[0]


def _publish_files(shard_dirs: Sequence[Path], name: str, run_dir: Path) -> None:
    for shard_dir in shard_dirs:
        source = shard_dir / name
        for root, _, files in os.walk(source):
            folder = run_dir / name / Path(root).relative_to(source)
            folder.mkdir(parents=True, exist_ok=True)
            for file in files:
                _link(Path(root) / file, folder / file)
            fsync_path(folder)


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a copy of it, in one step."""
    with suppress(OSError):
        if os.path.samestat(source.stat(), target.stat()):
            return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:  # no hard links here
            shutil.copyfile(source, temporary)
            fsync_path(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_scp(shard_dirs: Sequence[Path], field: str, out: Path) -> None:
    """Write the lines of an scp field in the order of the items."""
    if not order_of_shards(shard_dirs):  # then copying whole files will do
        concatenate_shard_files(shard_dirs, f"{field}.scp", out)
        return
    with replacing(out) as target:
        target.writelines(_lines(shard_dirs, field))


def _write_trn(shard_dirs: Sequence[Path], field: str, out: Path) -> None:
    """Write sclite's ``<text> (<id>)`` lines from those of an scp field, without holding them."""
    with replacing(out) as target:
        for line in _lines(shard_dirs, field):
            utt, _, value = line[:-1].partition(b" ")
            target.write(value + b" (" + utt + b")\n")


def _lines(shard_dirs: Sequence[Path], field: str) -> Iterator[bytes]:
    def read(shard_dir: Path) -> Iterator[bytes]:
        path = shard_dir / f"{field}.scp"
        if path.exists():  # a shard without records has none
            with path.open("rb") as lines:
                yield from lines

    return in_order(shard_dirs, read)
