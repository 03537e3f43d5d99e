"""Word error rate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet3.components.metrics.error_rate import ErrorRate
from espnet3.utils.scp import write_trn


class WER(ErrorRate):
    """Word error rate in percent; words are what any white space separates.

    Beside ``wer_alignment.txt`` it writes ``ref.trn`` and ``hyp.trn`` for sclite, with the text
    that was compared and an empty line for a missing hypothesis.
    """

    name = "WER"
    unit = "words"

    def tokens(self, text: str) -> list[str]:
        """Return the words."""
        return text.split()

    def score(
        self, data: Mapping[str, Mapping[str, Any]], output_dir: Path | None = None
    ) -> dict[str, float]:
        """Count hits and errors; write the alignment and the two trn files."""
        counts = super().score(data, output_dir)
        if output_dir is not None:
            for side in ("ref", "hyp"):
                texts = ((utt_id, data[side].get(utt_id, "")) for utt_id in data["ref"])
                lines = ((utt_id, " ".join(self.tokens(self._clean(t)))) for utt_id, t in texts)
                write_trn(output_dir / f"{side}.trn", lines)
        return counts
