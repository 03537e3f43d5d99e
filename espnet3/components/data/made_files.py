"""Which audio files were made of what: another list of utterances makes no more than it must."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from espnet3.components.data.audio.files import files_below
from espnet3.components.data.utterances import Utterance
from espnet3.errors import DataError
from espnet3.parallel.engine.files import RECORD, SHARD
from espnet3.utils import durable
from espnet3.utils.scp import check_scp_value

TABLE = "made.tsv"
"""One in each shard, and one for all beside the run."""

SAMPLES = "utt2num_samples"

_SETTINGS = ("sample_rate", "audio_format", "channel")


class Made(NamedTuple):
    """One audio file.

    Attributes:
        utt_id: Its utterance.
        recipe: A digest of the source's name, the stretch, and the form of the result.
        stamp: Size and time of the source; "" where that is no file.
        path: The file, below ``out_dir``.
        n_samples: How many it has.
    """

    utt_id: str
    recipe: str
    stamp: str
    path: str
    n_samples: int

    def line(self) -> str:
        """One row of a table."""
        return "\t".join(map(str, self)) + "\n"


def recipe_of(utterance: Utterance, how: Mapping[str, Any]) -> str:
    """A digest of what, beside the source's content, decides an utterance's file."""
    text = repr((utterance.audio, utterance.start, utterance.end, *map(how.get, _SETTINGS)))
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def stamp_of(audio: str) -> str:
    """Size and time of a source; "" if it is no file, or gone."""
    try:
        stat = os.stat(audio)
    except (OSError, ValueError):
        return ""
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def read_shards(shard_dirs: Iterable[Path]) -> Iterator[Made]:
    """Read what shards have made, in their order."""
    for shard_dir in shard_dirs:
        yield from _read(shard_dir / TABLE)


class MadeFiles:
    """What was made by the runs over earlier lists.

    Args:
        run_root: The directory above the step's run; it holds the table.

    Attributes:
        kept: What of the list that was asked for last need not be made.
    """

    def __init__(self, run_root: Path) -> None:
        self._path = run_root / TABLE
        self._rows = {row.utt_id: row for row in _read(self._path)}
        self.kept: dict[str, Made] = {}

    def take_over(self, run_dir: Path) -> None:
        """Add what a run has finished that is not to be merged any more."""
        done = [shard for shard in run_dir.glob(f"{SHARD}*") if (shard / RECORD).exists()]
        self._rows |= {row.utt_id: row for row in read_shards(done)}
        with durable.replacing(self._path) as table:
            table.writelines(row.line().encode() for row in self._rows.values())

    def missing(
        self, utterances: Sequence[Utterance], how: Mapping[str, Any], there: Collection[str]
    ) -> list[Utterance]:
        """What of a list is to be made; the others are `kept` from now on.

        Kept is what was made in the same form of the same source, is still among the files that are
        `there`, and whose source has not changed since; it may be gone.
        """
        self.kept = {}
        for utterance in utterances:
            row = self._rows.get(utterance.utt_id)
            if row is None or row.path not in there or row.recipe != recipe_of(utterance, how):
                continue
            if stamp_of(utterance.audio) in ("", row.stamp):
                self.kept[row.utt_id] = row
        return [one for one in utterances if one.utt_id not in self.kept]

    def among(self, utterances: Iterable[Utterance], made: Iterable[Made]) -> Iterator[Made]:
        """Give what was kept and what was made now, in the order of the list."""
        new = {row.utt_id: row for row in made}
        for utterance in utterances:
            row = self.kept.get(utterance.utt_id) or new.get(utterance.utt_id)
            if row is not None:  # else it failed and is skipped
                yield row

    def others(self, published: Collection[str], there: Collection[str]) -> Iterator[Made]:
        """Give what was made for lists that had more than the one that is published."""
        for utt_id, row in self._rows.items():
            if utt_id not in published and row.path in there:
                yield row


def publish_files(
    rows: Iterable[Made], out: Path, run_dir: Path, before: MadeFiles | None = None
) -> tuple[int, int]:
    """Write the tables of audio files; return how many utterances and samples there are.

    Raises:
        DataError: A file is gone; nothing was published.
    """
    there, n_samples = files_below(out), 0
    published: set[str] = set()
    with (
        durable.replacing(out / "wav.scp") as scp,
        durable.replacing(out / SAMPLES) as samples,
        durable.replacing(run_dir.parent / TABLE) as table,
    ):
        for row in rows:
            if row.path not in there:
                raise DataError(
                    f"utterance {row.utt_id!r}: {out / row.path} was made, and is gone; remove "
                    f"{run_dir} and call this again"
                )
            path = check_scp_value(str(out / row.path), row.utt_id, "wav")
            scp.write(f"{row.utt_id} {path}\n".encode())
            samples.write(f"{row.utt_id} {row.n_samples}\n".encode())
            table.write(row.line().encode())
            published.add(row.utt_id)
            n_samples += row.n_samples
        if before is not None:
            table.writelines(row.line().encode() for row in before.others(published, there))
    return len(published), n_samples


def publish_counts(shard_dirs: Sequence[Path], out: Path) -> tuple[int, int]:
    """Write ``utt2num_samples`` of what is packed; return how many utterances and samples."""
    n_utterances, n_samples = 0, 0
    with durable.replacing(out / SAMPLES) as published:
        for shard_dir in shard_dirs:
            with (shard_dir / SAMPLES).open(encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    published.write(line.encode())
                    n_utterances, n_samples = n_utterances + 1, n_samples + int(line.split(" ")[1])
    return n_utterances, n_samples


def _read(path: Path) -> Iterator[Made]:
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                utt_id, recipe, stamp, place, n_samples = line[:-1].split("\t")
                yield Made(utt_id, recipe, stamp, place, int(n_samples))
    except FileNotFoundError:
        return
