"""Error rates by minimum edit distance: what `WER` and `CER` share."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from espnet3.components.metrics.base_metric import BaseMetric
from espnet3.errors import ConfigError, DataError
from espnet3.utils import durable

try:
    from rapidfuzz.distance import Levenshtein
except ImportError as error:
    raise ImportError("WER and CER need rapidfuzz: pip install 'espnet3[asr]'") from error


@dataclass
class Alignment:
    """One utterance's reference and hypothesis, token by token; `None` where one has nothing."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    pairs: list[tuple[str | None, str | None]] = field(default_factory=list)

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions


def align(ref: Sequence[str], hyp: Sequence[str]) -> Alignment:
    """Align two token sequences with the fewest errors, each kind costing 1.

    Where several alignments have the fewest, the same one is chosen every time; sclite weighs
    substitutions differently and may choose another one.
    """
    result = Alignment()
    for operation in Levenshtein.opcodes(ref, hyp):
        refs: list[str | None] = list(ref[operation.src_start : operation.src_end])
        hyps: list[str | None] = list(hyp[operation.dest_start : operation.dest_end])
        if operation.tag == "equal":
            result.hits += len(refs)
        elif operation.tag == "replace":
            result.substitutions += len(refs)
        elif operation.tag == "delete":
            result.deletions += len(refs)
            hyps = [None] * len(refs)
        else:
            result.insertions += len(hyps)
            refs = [None] * len(hyps)
        result.pairs.extend(zip(refs, hyps, strict=True))
    return result


class ErrorRate(BaseMetric):
    """Errors in percent of the reference tokens, over whole test sets.

    A missing hypothesis counts as deletions, an empty reference can have insertions only, and
    without any reference token the rate is undefined.

    Args:
        clean_types: ESPnet2 ``TextCleaner`` types, such as ``[tacotron]``, applied to both sides;
            this needs the ``espnet`` package, release 202511 or older. `None` compares the text
            as it is.
    """

    name: ClassVar[str]
    """The rate's name, ``WER``; in lower case that of the alignment file."""
    unit: ClassVar[str]
    """What is counted, ``words``."""

    def __init__(self, clean_types: str | Iterable[str] | None = None) -> None:
        self._clean = _text_cleaner(clean_types)

    def tokens(self, text: str) -> list[str]:
        """Split a text into what is compared."""
        raise NotImplementedError

    def score(
        self, data: Mapping[str, Mapping[str, Any]], output_dir: Path | None = None
    ) -> dict[str, float]:
        """Count hits and errors; write ``<name>_alignment.txt``, most errors first."""
        totals = Alignment()
        texts: list[tuple[int, str]] = []
        for utt_id, reference in data["ref"].items():
            hypothesis = data["hyp"].get(utt_id)
            ref = self.tokens(self._text(reference, utt_id, "ref"))
            hyp = self.tokens(self._text(hypothesis or "", utt_id, "hyp"))
            one = align(ref, hyp)
            for kind in ("hits", "substitutions", "deletions", "insertions"):
                setattr(totals, kind, getattr(totals, kind) + getattr(one, kind))
            if output_dir is not None:
                note = "" if hypothesis is not None else "  (no hypothesis)"
                texts.append((one.errors, self._describe(utt_id, one, note)))
        if output_dir is not None:
            texts.sort(key=lambda text: -text[0])  # stable: the data set's order within a count
            head = f"utterances {len(texts)}  {self._counts(totals)}\n"
            path = output_dir / f"{self.name.lower()}_alignment.txt"
            durable.replace(path, "\n".join([head, *(text for _, text in texts)]).encode())
        return {
            self.unit: totals.hits + totals.substitutions + totals.deletions,
            "hits": totals.hits,
            "substitutions": totals.substitutions,
            "deletions": totals.deletions,
            "insertions": totals.insertions,
        }

    def rates(self, counts: Mapping[str, float]) -> dict[str, float | None]:
        """Return errors in percent of the reference tokens, rounded to two digits."""
        errors = counts["substitutions"] + counts["deletions"] + counts["insertions"]
        total = counts[self.unit]
        return {self.name: round(100 * errors / total, 2) if total else None}

    def _text(self, value: object, utt_id: str, side: str) -> str:
        if not isinstance(value, str):
            raise DataError(
                f"{self.name}: the {side} of utterance {utt_id!r} is {type(value).__name__}, "
                "not text; bind it to a field that holds text under `inputs:`"
            )
        return self._clean(value)

    def _counts(self, one: Alignment) -> str:
        total = one.hits + one.substitutions + one.deletions
        rate = f"{100 * one.errors / total:.2f} %" if total else "-"
        return (
            f"{self.name} {rate} ({self.unit} {total}, substitutions {one.substitutions}, "
            f"deletions {one.deletions}, insertions {one.insertions})"
        )

    def _describe(self, utt_id: str, one: Alignment, note: str) -> str:
        ref_row, hyp_row, marks = "  ref:", "  hyp:", "      "
        for ref, hyp in one.pairs:
            mark = "" if ref == hyp else "I" if ref is None else "D" if hyp is None else "S"
            ref, hyp = "*" if ref is None else ref, "*" if hyp is None else hyp
            width = max(_width(ref), _width(hyp))
            ref_row += f" {ref}{' ' * (width - _width(ref))}"
            hyp_row += f" {hyp}{' ' * (width - _width(hyp))}"
            marks += f" {mark:{width}}"
        rows = [f"{utt_id}  {self._counts(one)}{note}", ref_row, hyp_row, marks]
        return "".join(f"{row.rstrip()}\n" for row in rows if row.strip())


def _width(text: str) -> int:
    """Return how many columns a terminal gives to `text`."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _text_cleaner(clean_types: str | Iterable[str] | None) -> Callable[[str], str]:
    types = [clean_types] if isinstance(clean_types, str) else list(clean_types or ())
    if not types:
        return lambda text: text
    try:
        from espnet2.text.cleaner import TextCleaner  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            f"clean_types {types}: the cleaners are ESPnet2's; install `espnet` 202511 or older, "
            "or leave clean_types empty and normalise the text in the data set and output_fn"
        ) from error
    cleaner: Callable[[str], str] = TextCleaner(types)
    return cleaner
