"""Character error rate."""

from __future__ import annotations

from espnet3.components.metrics.error_rate import ErrorRate


class CER(ErrorRate):
    """Character error rate in percent. The one space between words counts as a character.

    Characters are Unicode code points, as they stand: nothing is composed or decomposed.
    """

    name = "CER"
    unit = "characters"

    def tokens(self, text: str) -> list[str]:
        """Return the characters of the words, joined by single spaces."""
        return list(" ".join(text.split()))
