"""What formatting has published, and a note of it in the run directory, so that shards may go.

`espnet3 clean` removes the shards of a run whose directory holds what was made from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from espnet3.components.data.made_files import SAMPLES
from espnet3.errors import DataError, RunStopped
from espnet3.utils import durable

NOTE = "published.json"


@dataclass(frozen=True)
class FormattedAudio:
    """What was published.

    Attributes:
        wav_scp: ``<utterance> <absolute path>`` in the order given, for Kaldi and ESPnet.
        utt2num_samples: ``<utterance> <samples>`` in the same order.
        n_utterances: How many.
        seconds: Of audio in all.
    """

    wav_scp: Path
    utt2num_samples: Path
    n_utterances: int
    seconds: float

    @classmethod
    def of(cls, out: Path, counts: tuple[int, int], rate: int) -> FormattedAudio:
        """Those of `out`, with so many utterances and samples at this rate (Hz)."""
        return cls(out / "wav.scp", out / SAMPLES, counts[0], counts[1] / rate)


def note_published(run_dir: Path, out: Path, names: Iterable[str], counts: tuple[int, int]) -> None:
    """Note what was published.

    Args:
        run_dir: Of the run.
        out: Where it was published.
        names: Of files below `out`.
        counts: Of utterances and samples.
    """
    sizes = {name: (out / name).stat().st_size for name in sorted(names)}
    note = {"n_utterances": counts[0], "n_samples": counts[1], "files": sizes}
    durable.replace(run_dir / NOTE, json.dumps(note).encode())


def published_before(run_dir: Path, out: Path, rate: int) -> FormattedAudio:
    """Give what was published by a run whose shards were removed.

    Raises:
        DataError: Some of it is gone, or has another size.
        RunStopped: Nothing was published.
    """
    try:
        note = json.loads((run_dir / NOTE).read_bytes())
    except FileNotFoundError:
        raise RunStopped(
            f"{run_dir}: nothing is published before all utterances are done; leave run.limit out"
        ) from None
    for name, size in note["files"].items():
        path = out / name
        if not path.is_file() or path.stat().st_size != size:
            raise DataError(
                f"{path} is not what was published, and the shards that it was made of were "
                f"removed by `espnet3 clean`; put it back, or remove {run_dir} and make all again"
            )
    return FormattedAudio.of(out, (note["n_utterances"], note["n_samples"]), rate)
