"""Normalising transcripts for scoring: what no recogniser is to be blamed for is made the same.

A normaliser is a list of steps, each a function from text to text that may be used alone. Reference
and hypothesis go through the same one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from espnet3.errors import ConfigError
from espnet3.utils.extras import import_extra

Step = Callable[[str], str]

_PAIRS = {"[": "]", "<": ">", "{": "}", "(": ")"}
_NOT_SPEECH = re.compile("|".join(rf"\{a}[^\{a}\{b}]*\{b}" for a, b in _PAIRS.items()))
_DOTTED = re.compile(r"(?<!\w)[^\W\d_](?:\.[^\W\d_])+(?!\w)\.?")
_SINGLE_LETTERS = re.compile(r"(?<!\S)[^\W\d_](?: [^\W\d_])+(?!\S)")
_APOSTROPHES = re.compile("[’‘ʼ`´]")
_OUTER_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")

PERCENT = {
    "en": "percent", "es": "por ciento", "fr": "pour cent", "it": "per cento", "ru": "процентов",
}  # fmt: skip
_DECIMALS_LOST = ("cy", "it")
"""Languages whose words num2words has for a float only: of a `Decimal` it says the whole part."""
_ORDINAL = {
    "en": r"(?:st|nd|rd|th)\b", "es": "[ºª]", "it": "[ºª°]", "fr": r"(?:er|re|e|ème|eme)\b",
}  # fmt: skip


class TextNormalizer:
    """Applies steps in their order.

    Args:
        steps: Functions from text to text.

    Example:
        >>> TextNormalizer.for_language("en", numbers=False)("[beep] Don't STOP -- now!")
        "don't stop now"
    """

    def __init__(self, *steps: Step) -> None:
        self.steps = steps

    def __call__(self, text: str) -> str:
        """Return the normalised text; "" where nothing is left of it."""
        for step in self.steps:
            text = step(text)
        return text

    @classmethod
    def for_language(
        cls,
        language: str = "en",
        *,
        case: Literal["lower", "upper"] = "lower",
        numbers: bool = True,
        digit_by_digit_from: int | None = None,
        letters_joined: bool = False,
        accents: bool = True,
    ) -> TextNormalizer:
        """Return the usual steps for a language.

        In order: NFC; what stands in brackets of any kind is left out (non-speech, notes); dotted
        abbreviations are one word; numbers are words; case; punctuation is left out, but for
        apostrophes inside words; single letters; accents; single spaces. In Russian ``ё`` is ``е``.

        Args:
            language: A code that num2words knows: ``en``, ``es``, ``fr``, ``it``, ``ru``, ...
            case: ``lower`` or ``upper``.
            numbers: Whether digits become words; without, they stay.
            digit_by_digit_from: Numbers with so many digits are spoken digit by digit, as
                telephone numbers are; `None`: only those that begin with 0.
            letters_joined: Whether single letters in a row are one word (``p i n`` is ``pin``).
            accents: Whether accents are kept; False for transcripts that lack some.

        Raises:
            ConfigError: The language or case is unknown, or num2words is not installed.
        """
        if case not in ("lower", "upper"):
            raise ConfigError(f"case: {case!r} is neither 'lower' nor 'upper'")
        steps: list[Step] = [nfc, without_brackets, abbreviations_joined]
        if numbers:
            steps.append(NumbersToWords(language, digit_by_digit_from))
        steps += [str.lower if case == "lower" else str.upper, without_punctuation]
        if letters_joined:
            steps += [single_spaces, single_letters_joined]
        if language == "ru":
            steps.append(without_yo)
        if not accents:
            steps.append(without_accents)
        return cls(*steps, single_spaces)


def nfc(text: str) -> str:
    """Compose characters, so that an accented letter is one code point."""
    return unicodedata.normalize("NFC", text)


def without_brackets(text: str) -> str:
    """Leave out ``[...]``, ``<...>``, ``{...}`` and ``(...)``, whatever stands in them."""
    shorter = _NOT_SPEECH.sub(" ", text)
    while shorter != text:
        text, shorter = shorter, _NOT_SPEECH.sub(" ", shorter)
    return text


def abbreviations_joined(text: str) -> str:
    """Write ``P.I.N.`` as ``PIN``, ``a.m.`` as ``am``."""
    return _DOTTED.sub(lambda found: found[0].replace(".", ""), text)


def single_letters_joined(text: str) -> str:
    """Write ``p i n`` as ``pin``; words of one letter in a row count as well."""
    return _SINGLE_LETTERS.sub(lambda found: found[0].replace(" ", ""), text)


def without_punctuation(text: str) -> str:
    """Keep letters, digits, spaces, and apostrophes (all as ``'``) inside words.

    Everything else separates words, hyphens too.
    """
    text = _APOSTROPHES.sub("'", text)
    kept = (c if c == "'" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return _OUTER_APOSTROPHE.sub(" ", "".join(kept))


def without_accents(text: str) -> str:
    """Leave out combining marks: ``é`` is ``e``."""
    apart = unicodedata.normalize("NFD", text)
    return nfc("".join(c for c in apart if unicodedata.category(c) != "Mn"))


def without_yo(text: str) -> str:
    """Write ``ё`` as ``е``, as most Russian texts do."""
    return text.replace("ё", "е").replace("Ё", "Е")


def single_spaces(text: str) -> str:
    """One space between words, none around them."""
    return " ".join(text.split())


@dataclass(frozen=True)
class NumbersToWords:
    """Writes numbers as words, by num2words.

    Known are whole numbers, grouped ones (``1,000`` in English, ``1.000`` elsewhere), decimals,
    ordinals as ``1st``, ``1er``, ``1º`` (not in Russian), and ``%``. All other digits are single
    numbers each. A number is a word of its own: ``3D`` is ``three D``.

    Attributes:
        language: A code that num2words knows.
        digit_by_digit_from: See `TextNormalizer.for_language`.

    Raises:
        ConfigError: num2words does not know the language, or is not installed.
    """

    language: str
    digit_by_digit_from: int | None = None

    def __post_init__(self) -> None:
        try:
            self._say("0")
        except NotImplementedError as error:
            raise ConfigError(f"num2words knows no numbers in {self.language!r}") from error

    def __call__(self, text: str) -> str:
        """Return the text without digits."""
        ordinal = _ORDINAL.get(self.language)
        if ordinal:
            text = re.sub(
                rf"(?<![\d.,])(\d{{1,6}}){ordinal}",
                lambda found: f" {self._say(found[1], to='ordinal')} ",
                text,
            )
        percent = PERCENT.get(self.language)
        if percent:
            text = re.sub(r"(?<=\d)\s*%", f" {percent} ", text)
        return re.sub(r"\d+(?:[.,]\d+)*", lambda found: f" {self._number(found[0])} ", text)

    def _number(self, written: str) -> str:
        group, point = (",", ".") if self.language == "en" else (".", ",")
        if re.fullmatch(rf"[1-9]\d{{0,2}}(?:\{group}\d{{3}})+(?:\{point}\d+)?", written):
            written = written.replace(group, "")
        parts = re.split(r"[.,]", written)
        if len(parts) == 2 and not self._spelled(parts[0]) and written.count(group) == 0:
            return self._say(".".join(parts))
        return " ".join(self._whole(part) for part in parts)

    def _whole(self, digits: str) -> str:
        return " ".join(map(self._say, digits)) if self._spelled(digits) else self._say(digits)

    def _spelled(self, digits: str) -> bool:
        most = self.digit_by_digit_from
        return (len(digits) > 1 and digits[0] == "0") or (most is not None and len(digits) >= most)

    def _say(self, number: str, to: str = "cardinal") -> str:
        num2words: Any = import_extra("num2words", "writing numbers as words").num2words
        exact = float if self.language[:2] in _DECIMALS_LOST else Decimal
        value = exact(number) if "." in number else int(number)
        try:
            return str(num2words(value, lang=self.language, to=to))
        except OverflowError:  # more digits than the language has words for
            return " ".join(map(self._say, number.replace(".", "")))
