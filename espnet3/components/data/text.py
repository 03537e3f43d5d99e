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
from functools import cache
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
PLUS = {"en": "plus", "es": "más", "fr": "plus", "it": "più", "ru": "плюс"}
FRACTIONS = {
    "en": ("one", "and", {"2": "half halves", "3": "third thirds", "4": "quarter quarters"}),
    "es": ("un", "y", {"2": "medio medios", "3": "tercio tercios", "4": "cuarto cuartos"}),
    "fr": ("un", "et", {"2": "demi demis", "3": "tiers tiers", "4": "quart quarts"}),
    "it": ("un", "e", {"2": "mezzo mezzi", "3": "terzo terzi", "4": "quarto quarti"}),
}
"""The numerator 1, what joins a whole number and a fraction, and the denominators."""
_FRACTION = re.compile(r"(?<![\d.,/])(?:(\d+) +)?([1-3])[/\u2044]([234])(?![\d/]|[.,]\d)")
_VULGAR = re.compile("[¼½¾⅓⅔]")
# Not what joins two words or numbers, nor a dash of several characters.
_MINUS = re.compile(r"(?<![\w.,)\-\u2212])[-\u2212](?=[.,]?\d)")
_PLUS = re.compile(r"(?<![^\W\d])(?<!\+)\+(?=\s?\d)")
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

    Known are whole numbers, grouped ones (``1,000`` in English, ``1.000`` elsewhere), decimals
    as they are written (``1.10`` is ``one point one zero``), ordinals as ``1st``, ``1er``, ``1º``
    (not in Russian), signs, ``%``, and halves, thirds and quarters (``1/2``, ``2 3/4``, ``½``; not
    in Russian). All other digits are single numbers each. A number is a word of its own: ``3D`` is
    ``three D``.

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
        text = self._fractions_said(self._signs_said(text))
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

    def _signs_said(self, text: str) -> str:
        if _MINUS.search(text):
            minus = self._say("-1").removesuffix(self._say("1")).strip()
            text = _MINUS.sub(f" {minus} ", text)
        plus = PLUS.get(self.language)
        return _PLUS.sub(f" {plus} ", text) if plus else text

    def _fractions_said(self, text: str) -> str:
        if self.language not in FRACTIONS:
            return text
        one, joined, denominators = FRACTIONS[self.language]

        def said(found: re.Match[str]) -> str:
            whole, upper, lower = found.groups()
            if int(upper) >= int(lower):
                return found[0]
            singular, plural = denominators[lower].split()
            words = f"{one} {singular}" if upper == "1" else f"{self._say(upper)} {plural}"
            return f" {whole} {joined} {words} " if whole else f" {words} "

        text = _VULGAR.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]), text)
        return _FRACTION.sub(said, text)

    def _number(self, written: str) -> str:
        group, point = (",", ".") if self.language == "en" else (".", ",")
        if re.fullmatch(rf"[1-9]\d{{0,2}}(?:\{group}\d{{3}})+(?:\{point}\d+)?", written):
            written = written.replace(group, "")
        parts = re.split(r"[.,]", written)
        if len(parts) == 2 and not self._spelled(parts[0]) and written.count(group) == 0:
            return self._decimal(*parts)
        return " ".join(self._whole(part) for part in parts)

    def _decimal(self, whole: str, fraction: str) -> str:
        point = _point(self.language)
        if point is None:
            return self._say(f"{whole}.{fraction}")
        return " ".join([self._say(whole), point, *map(self._say, fraction)])

    def _whole(self, digits: str) -> str:
        return " ".join(map(self._say, digits)) if self._spelled(digits) else self._say(digits)

    def _spelled(self, digits: str) -> bool:
        most = self.digit_by_digit_from
        return (len(digits) > 1 and digits[0] == "0") or (most is not None and len(digits) >= most)

    def _say(self, number: str, to: str = "cardinal") -> str:
        num2words: Any = import_extra("num2words", "writing numbers as words").num2words
        value = Decimal(number) if "." in number else int(number)
        try:
            return str(num2words(value, lang=self.language, to=to))
        except OverflowError:  # more digits than the language has words for
            return " ".join(map(self._say, number.replace(".", "")))


@cache
def _point(language: str) -> str | None:
    """The word before decimals; None where they are not said digit by digit."""
    num2words: Any = import_extra("num2words", "writing numbers as words").num2words
    # Of a `Decimal`, num2words says the whole part alone in some languages.
    sample, one, two, three = (str(num2words(n, lang=language)) for n in (1.23, 1, 2, 3))
    head, _, rest = sample.partition(" ")
    digits = f" {two} {three}"
    return rest.removesuffix(digits) if head == one and rest.endswith(digits) else None
