"""Publishing what the shards of a ``collect_stats`` run hold: checked as a whole, then written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from espnet3.components.data.stats.record import Shape
from espnet3.components.data.stats.writer import (
    COLLECTED,
    SUMMARY_FILE,
    NameSummary,
    dims_of,
    rows_file,
)
from espnet3.errors import DataError
from espnet3.parallel.base_runner import concatenate_shard_files
from espnet3.utils.ark_merge import entries_of, publish_ark
from espnet3.utils.durable import fsync_path, replacing
from espnet3.utils.unique_ids import first_repeat

Vector = np.ndarray[Any, np.dtype[np.float64]]

_BLOCK = 4096  # rows in memory
_LEAST_VARIANCE = 1e-20  # the default of ESPnet2's GlobalMVN


@dataclass(frozen=True)
class _Shard:
    path: Path
    records: int
    first_utterance: str
    names: dict[str, NameSummary]


def publish_stats(shard_dirs: Sequence[Path], run_dir: Path) -> None:
    """Publish the statistics of one split, in the files that ESPnet2 and ESPnet3 read.

    * ``<name>_shape``: ``<utterance> <length>,<dimension>``, in the order of the data set, for
      every field that is an array and every feature;
    * ``<feature>_stats.npz``: ``count``, ``sum``, ``sum_square``, ``mean`` and ``std``;
    * ``collect_feats/<feature>.scp`` and its arks (see `publish_ark`), where features were written;
    * ``batch_keys``, ``stats_keys``: the fields, the features.

    The sums of utterances are added one after the other in the order of the data set, in float64,
    so they depend neither on how utterances were spread over shards nor on who did them.

    Args:
        shard_dirs: By position.
        run_dir: Where to publish.

    Raises:
        DataError: Some utterances lack a field or feature, a feature has frames of two shapes, an
            utterance id comes twice, or there is no feature. Nothing has been published then.
    """
    shards = [_read(Path(path)) for path in shard_dirs]
    names = sorted({name for shard in shards for name in shard.names})
    _check_complete(shards, names)
    features = {
        name: _only_dims(shards, name)
        for name in names
        if any(name in shard.names and shard.names[name].is_feature for shard in shards)
    }
    if not features:
        raise DataError("there are no features: every utterance failed, or none has any")
    _check_ids(shards, names[0])
    run_dir.mkdir(parents=True, exist_ok=True)
    for left in (run_dir / COLLECTED).glob(".*.tmp"):  # by a process that was killed
        left.unlink()
    paths = [shard.path for shard in shards]
    for name in names:
        concatenate_shard_files(paths, f"{name}_shape", run_dir / f"{name}_shape")
    for name, dims in features.items():
        _publish_arrays(paths, name, run_dir)
        _write_sums(_total(paths, name, dims), dims_of(dims), run_dir / f"{name}_stats.npz")
    _remove_others(paths, names, features, run_dir)
    _write_lines([name for name in names if name not in features], run_dir / "batch_keys")
    _write_lines(features, run_dir / "stats_keys")
    fsync_path(run_dir)


def _read(path: Path) -> _Shard:
    try:
        summary = json.loads((path / SUMMARY_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path / SUMMARY_FILE}: cannot be read ({error})") from error
    names = {name: NameSummary(**entry) for name, entry in summary["names"].items()}
    return _Shard(path, summary["records"], summary["first_utterance"], names)


def _check_complete(shards: Sequence[_Shard], names: Sequence[str]) -> None:
    """Refuse a name that some utterances lack, naming the first of them."""
    for name in names:
        for shard in shards:
            if shard.records and name not in shard.names:
                have = sum(s.names[name].lines for s in shards if name in s.names)
                raise DataError(
                    f"{name!r} is missing for utterance {shard.first_utterance!r}; {have} of "
                    f"{sum(s.records for s in shards)} utterances have it. Give it for every "
                    "utterance and start again with resume: false. Nothing was published."
                )


def _only_dims(shards: Sequence[_Shard], name: str) -> str:
    first: dict[str, str] = {}
    for shard in shards:
        if name in shard.names:
            first.setdefault(shard.names[name].dims, shard.first_utterance)
    if len(first) > 1:
        (one, its), (other, others) = list(first.items())[:2]
        raise DataError(
            f"{name!r} has frames of {one} for utterance {its!r} and of {other} for {others!r}; "
            "statistics need one shape. Mend the data or the features and start again with resume: "
            "false. Nothing was published."
        )
    return next(iter(first))


def _check_ids(shards: Sequence[_Shard], name: str) -> None:
    def ids() -> Iterator[bytes]:
        for shard in shards:
            if shard.records:
                with (shard.path / f"{name}_shape").open("rb") as lines:
                    yield from (line.partition(b" ")[0] for line in lines)

    repeat = first_repeat(ids)
    if repeat.utt_id is not None:
        raise DataError(
            f"utterance id {repeat.utt_id!r} comes twice; give every utterance an id of its own "
            "and start again with resume: false. Nothing was published."
        )


def _total(paths: Sequence[Path], name: str, dims: str) -> Vector:
    """Add up the rows of a feature in the order of the data set."""
    width = 1 + 2 * int(np.prod(dims_of(dims), dtype=np.int64))
    total = np.zeros(width, np.float64)
    for path in paths:
        file = path / rows_file(name, dims)
        if not file.exists():  # a shard without records
            continue
        with file.open("rb") as rows:
            while block := rows.read(_BLOCK * width * 8):
                for row in np.frombuffer(block, np.float64).reshape(-1, width):
                    total += row  # one by one: any other order would give other last bits
    return total


def _write_sums(total: Vector, dims: Shape, path: Path) -> None:
    count = int(total[0])
    of_values, of_squares = (half.reshape(dims) for half in np.split(total[1:], 2))
    mean = of_values / count
    variance = of_squares / count - mean * mean
    with replacing(path) as target:
        np.savez(
            target,
            count=count,
            sum=of_values,
            sum_square=of_squares,
            mean=mean,
            std=np.sqrt(np.maximum(variance, _LEAST_VARIANCE)),
        )


def _publish_arrays(paths: Sequence[Path], name: str, run_dir: Path) -> None:
    collected = [path / COLLECTED for path in paths]
    if any(folder.exists() for folder in collected):
        entries = chain.from_iterable(entries_of(directory, name) for directory in collected)
        publish_ark(entries, name, run_dir / COLLECTED)
        fsync_path(run_dir / COLLECTED)


def _remove_others(
    paths: Sequence[Path], names: Sequence[str], features: Mapping[str, str], run_dir: Path
) -> None:
    """Remove what an earlier publication has left that had other names, or wrote features."""
    before: set[str] = set()
    for keys in ("batch_keys", "stats_keys"):
        with suppress(FileNotFoundError):
            before |= set((run_dir / keys).read_text(encoding="utf-8").split())
    written = features if any((path / COLLECTED).exists() for path in paths) else {}
    for name in before | set(names):
        if name not in names:
            (run_dir / f"{name}_shape").unlink(missing_ok=True)
        if name not in features:
            (run_dir / f"{name}_stats.npz").unlink(missing_ok=True)
        if name not in written:
            (run_dir / COLLECTED / f"{name}.scp").unlink(missing_ok=True)
            shutil.rmtree(run_dir / COLLECTED / name, ignore_errors=True)


def _write_lines(lines: Sequence[str] | dict[str, str], path: Path) -> None:
    with replacing(path) as target:
        target.write("".join(f"{line}\n" for line in lines).encode())
