"""Transcripts made comparable, and utterances left out."""

from __future__ import annotations

import pickle
import sys
import unicodedata
from pathlib import Path

import pytest

from espnet3.components.data.filters import Dropped, filter_utterances
from espnet3.components.data.text import (
    NumbersToWords,
    TextNormalizer,
    nfc,
    single_spaces,
    without_brackets,
)
from espnet3.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "[this is a simple beep tone]", ""),
        ("en", "<beep ascending>", ""),
        ("en", "Press 1 to mute -- or 'hash'; don't wait!", "press one to mute or hash don't wait"),
        ("en", "the (so [very] called) glorious {noise} leader", "the glorious leader"),
        ("en", "At 9 a.m. enter your P.I.N., please.", "at nine am enter your pin please"),
        ("en", "1,000 calls at 28.8 kbit", "one thousand calls at twenty eight point eight kbit"),
        ("en", "the 21st, 50% of 3D", "the twenty first fifty percent of three d"),
        ("en", "dial 007 on 10.0.0.1", "dial zero zero seven on ten zero zero one"),
        ("en", "version 1.10 or 2.00", "version one point one zero or two point zero zero"),
        (
            "en",
            "-5 or +3.50, not 3-5 -- or \u22121",
            "minus five or plus three point five zero not three five or minus one",
        ),
        (
            "en",
            "1/2, 2 3/4 and 1½; 24/7, 1/2/2003",
            "one half two and three quarters and one and "
            "one half twenty four seven one two two thousand and three",
        ),
        ("es", "-2, +3 y 3/4", "menos dos más tres y tres cuartos"),
        ("fr", "2,50 et 2 1/3", "deux virgule cinq zéro et deux et un tiers"),
        (
            "it",
            "12345678901234567,10 e 1/2",
            "dodici biliardi trecentoquarantacinque bilioni "
            "seicentosettantotto miliardi novecentouno milioni e "
            "duecentotrentaquattromilacinquecentosessantasette virgola uno zero e un mezzo",
        ),
        ("ru", "1,10 и -3", "одна целая десять сотых и минус три"),
        ("es", "Marque 1.000, ¡ya! 28,8", "marque mil ya veintiocho punto ocho"),
        ("fr", "l’aide : 71 appels", "l'aide soixante et onze appels"),
        ("it", "premere 3 per l'aiuto, è così", "premere tre per l'aiuto è così"),
        (
            "it",
            "il 3,5% di 1.000.000,25",
            "il tre virgola cinque per cento di un milione virgola due cinque",
        ),
        ("ru", "Нажмите 2, чтобы зайти ещё", "нажмите два чтобы зайти еще"),
    ],
)
def test_what_is_scored(language: str, text: str, expected: str) -> None:
    normalize = TextNormalizer.for_language(language)
    assert normalize(text) == expected
    assert normalize(expected) == expected  # it is stable


def test_choices() -> None:
    normalize = TextNormalizer.for_language
    assert normalize("en", case="upper")("Go, 2") == "GO TWO"
    assert normalize("en", numbers=False)("Go, 2") == "go 2"
    assert normalize("en", digit_by_digit_from=4)("dial 1234 or 600") == (
        "dial one two three four or six hundred"
    )
    assert normalize("en", letters_joined=True)("enter the P I N now") == "enter the pin now"
    assert normalize("en", letters_joined=True)("your P, I, N - please") == "your pin please"
    assert normalize("fr", accents=False)("dévérouillé") == "deverouille"
    decomposed = unicodedata.normalize("NFD", "però")
    assert normalize("it")(decomposed) == "però"


def test_steps_can_be_put_together_and_travel() -> None:
    own = TextNormalizer(nfc, without_brackets, single_spaces)
    assert pickle.loads(pickle.dumps(own))("A [b]  c") == "A c"
    whole = pickle.loads(pickle.dumps(TextNormalizer.for_language("it")))
    assert whole("7!") == "sette"


def test_wrong_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no numbers in 'xx'"):
        NumbersToWords("xx")
    with pytest.raises(ConfigError, match="case: 'title'"):
        TextNormalizer.for_language("en", case="title")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "num2words", None)
    with pytest.raises(ConfigError, match=r"num2words: pip install 'espnet3\[data\]'"):
        TextNormalizer.for_language("en")


def test_filters_say_what_was_dropped_and_why(tmp_path: Path) -> None:
    seconds = {"a": 0.05, "b": 1.0, "c": 86.0, "d": 2.0, "e": 0.1}
    texts = {"a": "x", "b": "yes", "c": "z", "d": " "}
    found = filter_utterances(
        seconds, seconds=seconds, min_seconds=0.1, max_seconds=60, texts=texts
    )
    assert found.kept == ["b"]
    assert found.dropped == [
        Dropped("a", "too short", "0.05"),
        Dropped("c", "too long", "86"),
        Dropped("d", "empty text"),
        Dropped("e", "no text"),
    ]
    assert found.counts == {"too short": 1, "too long": 1, "empty text": 1, "no text": 1}
    found.write_dropped(tmp_path / "dropped.tsv")
    assert (tmp_path / "dropped.tsv").read_text().splitlines()[:2] == [
        "utt_id\treason\tdetail",
        "a\ttoo short\t0.05",
    ]
    assert filter_utterances(["a", "d"]).kept == ["a", "d"]


def test_lengths_that_nobody_knows_are_refused() -> None:
    with pytest.raises(DataError, match="utterance 'b': `seconds` has no length"):
        filter_utterances(["a", "b"], seconds={"a": 1.0})
    with pytest.raises(DataError, match="utterance 'a': nan is no length"):
        filter_utterances(["a"], seconds={"a": float("nan")})
    with pytest.raises(ConfigError, match="need the seconds"):
        filter_utterances(["a"], max_seconds=10)
