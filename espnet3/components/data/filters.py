"""Leaving utterances out: too short, too long, no transcript; with a list of which and why."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from espnet3.errors import ConfigError, DataError
from espnet3.utils import durable

TOO_SHORT, TOO_LONG = "too short", "too long"
EMPTY_TEXT, NO_TEXT = "empty text", "no text"


class Dropped(NamedTuple):
    """An utterance that was left out.

    Attributes:
        utt_id: Its id.
        reason: One of the reasons of this module.
        detail: The seconds, where those are the reason.
    """

    utt_id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Filtered:
    """What is kept and what is not, both in the order given."""

    kept: list[str]
    dropped: list[Dropped]

    @property
    def counts(self) -> dict[str, int]:
        """How many were dropped for each reason."""
        return dict(Counter(one.reason for one in self.dropped))

    def write_dropped(self, path: str | os.PathLike[str]) -> None:
        """Write ``utt_id``, ``reason`` and ``detail`` as TSV with a header, in one step."""
        rows = [Dropped._fields, *self.dropped]
        durable.replace(Path(path), "".join("\t".join(row) + "\n" for row in rows).encode())


def filter_utterances(
    utt_ids: Iterable[str],
    *,
    seconds: Mapping[str, float] | None = None,
    min_seconds: float = 0.0,
    max_seconds: float = math.inf,
    texts: Mapping[str, str] | None = None,
) -> Filtered:
    """Sort out utterances by their length and transcript.

    Args:
        utt_ids: In order.
        seconds: The length of each; `None` looks at no lengths.
        min_seconds: Shorter ones are dropped.
        max_seconds: Longer ones are dropped.
        texts: The (normalised) transcript of each; empty and missing ones are dropped. `None`
            looks at no transcripts.

    Raises:
        ConfigError: There are bounds without lengths, or the bounds leave nothing.
        DataError: The length of an utterance is not known or no number.
    """
    if seconds is None and (min_seconds > 0 or max_seconds < math.inf):
        raise ConfigError("min_seconds and max_seconds need the seconds of every utterance")
    if not min_seconds <= max_seconds:
        raise ConfigError(f"no length is from {min_seconds} to {max_seconds} seconds")
    kept, dropped = [], []
    for utt_id in utt_ids:
        reason = None
        if seconds is not None:
            reason = _why_length(utt_id, seconds, min_seconds, max_seconds)
        if reason is None and texts is not None:
            reason = _why_text(utt_id, texts)
        if reason is None:
            kept.append(utt_id)
        else:
            dropped.append(reason)
    return Filtered(kept, dropped)


def _why_length(
    utt_id: str, seconds: Mapping[str, float], least: float, most: float
) -> Dropped | None:
    length = seconds.get(utt_id)
    if length is None:
        raise DataError(
            f"utterance {utt_id!r}: `seconds` has no length of it; if its audio could not be read, "
            "leave it out of utt_ids (those of format_audio's wav.scp have one)"
        )
    if not length >= 0:
        raise DataError(f"utterance {utt_id!r}: {length} is no length in seconds")
    if least <= length <= most:
        return None
    return Dropped(utt_id, TOO_SHORT if length < least else TOO_LONG, f"{length:g}")


def _why_text(utt_id: str, texts: Mapping[str, str]) -> Dropped | None:
    text = texts.get(utt_id)
    if text is None:
        return Dropped(utt_id, NO_TEXT)
    return None if text.strip() else Dropped(utt_id, EMPTY_TEXT)
