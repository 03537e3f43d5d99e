"""WER and CER: counts, and the files that show where the errors are."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet3.components.metrics.cer import CER
from espnet3.components.metrics.error_rate import align
from espnet3.components.metrics.rtf import real_time_factor
from espnet3.components.metrics.wer import WER
from espnet3.errors import ConfigError, DataError

WORDS = st.lists(st.sampled_from(["a", "b", "c", "ab"]), max_size=8)


def edit_distance(ref: list[str], hyp: list[str]) -> int:
    """The textbook dynamic programme."""
    row = list(range(len(hyp) + 1))
    for i, r in enumerate(ref, start=1):
        diagonal, row[0] = row[0], i
        for j, h in enumerate(hyp, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (r != h))
    return row[-1]


@settings(deadline=None, derandomize=True)
@given(WORDS, WORDS)
def test_an_alignment_has_the_fewest_errors_and_loses_no_token(
    ref: list[str], hyp: list[str]
) -> None:
    found = align(ref, hyp)
    assert found.errors == edit_distance(ref, hyp)
    assert [r for r, _ in found.pairs if r is not None] == ref
    assert [h for _, h in found.pairs if h is not None] == hyp
    assert found.hits == sum(r == h for r, h in found.pairs)
    assert found.deletions == sum(h is None for _, h in found.pairs)
    assert found.insertions == sum(r is None for r, _ in found.pairs)
    assert len(found.pairs) == found.hits + found.errors


def test_wer_counts() -> None:
    metric = WER()
    data = {
        "ref": {"hit": "a b", "sub": "a b c", "ins": "a", "del": "a b", "gone": "a b", "none": ""},
        "hyp": {"hit": " a  b ", "sub": "a x c", "ins": "a b", "del": "b", "none": "x y"},
    }
    counts = metric.score(data)
    assert counts == {
        "words": 10,
        "hits": 6,
        "substitutions": 1,
        "deletions": 3,
        "insertions": 3,
    }
    assert metric.rates(counts) == {"WER": 70.0}


def test_without_a_reference_word_there_is_no_rate() -> None:
    metric = WER()
    counts = metric.score({"ref": {"a": "", "b": "  "}, "hyp": {"a": "x"}})
    assert (counts["words"], counts["insertions"]) == (0, 1)
    assert metric.rates(counts) == {"WER": None}


def test_cer_counts_one_space_between_words() -> None:
    metric = CER()
    counts = metric.score({"ref": {"a": "ab  cd "}, "hyp": {"a": "ab\u3000cx"}})
    assert counts["characters"] == 5
    assert metric.rates(counts) == {"CER": 20.0}


def test_wer_files(tmp_path: Path) -> None:
    data = {
        "ref": {"good": "YES", "bad": "A 漢字 B", "gone": "NO"},
        "hyp": {"bad": "A X B C", "good": "YES"},
    }
    WER().score(data, tmp_path)
    assert (tmp_path / "ref.trn").read_text() == "YES (good)\nA 漢字 B (bad)\nNO (gone)\n"
    assert (tmp_path / "hyp.trn").read_text() == "YES (good)\nA X B C (bad)\n (gone)\n"
    assert (tmp_path / "wer_alignment.txt").read_text() == (
        "utterances 3  WER 60.00 % (words 5, substitutions 1, deletions 1, insertions 1)\n"
        "\n"
        "bad  WER 66.67 % (words 3, substitutions 1, deletions 0, insertions 1)\n"
        "  ref: A 漢字 B *\n"
        "  hyp: A X    B C\n"
        "         S      I\n"
        "\n"
        "gone  WER 100.00 % (words 1, substitutions 0, deletions 1, insertions 0)"
        "  (no hypothesis)\n"
        "  ref: NO\n"
        "  hyp: *\n"
        "       D\n"
        "\n"
        "good  WER 0.00 % (words 1, substitutions 0, deletions 0, insertions 0)\n"
        "  ref: YES\n"
        "  hyp: YES\n"
    )


def test_what_is_no_text_is_named() -> None:
    with pytest.raises(DataError, match="WER: the ref of utterance 'u' is int, not text"):
        WER().score({"ref": {"u": 3}, "hyp": {}})


def test_cleaners_are_espnet2s() -> None:
    try:
        import espnet2  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"clean_types \['tacotron'\].*202511"):
            WER(clean_types="tacotron")
    else:
        counts = WER(clean_types=["tacotron"]).score({"ref": {"u": "a"}, "hyp": {"u": "A"}})
        assert counts["hits"] == 1


@pytest.mark.parametrize(
    ("seconds", "audio", "expected"),
    [(1.0, 4.0, 0.25), (0.0, 4.0, 0.0), (None, 4.0, None), (1.0, None, None), (1.0, 0.0, None)],
)
def test_real_time_factor(
    seconds: float | None, audio: float | None, expected: float | None
) -> None:
    assert real_time_factor(seconds, audio) == expected
