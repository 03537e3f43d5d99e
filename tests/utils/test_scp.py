"""The rules of espnet3.utils.scp, as properties."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet3.errors import DataError, RecordRejected
from espnet3.utils.scp import check_scp_value, check_utt_id, read_scp, write_scp, write_trn

# Surrogates included: str holds them, files do not.
ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(
    st.sampled_from(
        "ab \t\n\r\v\f\x00\x1b\x1c\x1d\x1e\x1f\x7f\x85\u2028\u2029\ud800/\\.é漢\u00a0\u200b"
    )
)
GOOD_VALUES = st.text(
    st.characters(
        exclude_categories=("Cs",),
        exclude_characters="\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\x00",
    )
)
GOOD_IDS = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Z"), exclude_characters="/\\"),
    min_size=1,
    max_size=50,
).filter(lambda text: text not in (".", ".."))

STEADY = settings(deadline=None, derandomize=True)


def allowed_value(text: str) -> bool:
    one_line = len((text + "x").splitlines()) == 1
    return one_line and "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def allowed_id(text: str) -> bool:
    return (
        text not in ("", ".", "..")
        and not any(c.isspace() or c in "/\\" for c in text)
        and not any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in text)
        and not any("\ud800" <= c <= "\udfff" for c in text)
        and len(text.encode()) <= 200
    )


@settings(STEADY)
@given(ANY_TEXT)
def test_a_value_passes_untouched_or_is_refused_by_name(text: str) -> None:
    if allowed_value(text):
        assert check_scp_value(text, "utt1", "text") is text
    else:
        with pytest.raises(RecordRejected, match=r"utterance 'utt1', field 'text'.*U\+"):
            check_scp_value(text, "utt1", "text")


@settings(STEADY)
@given(ANY_TEXT)
def test_an_id_passes_untouched_or_is_refused(text: str) -> None:
    if allowed_id(text):
        assert check_utt_id(text, "item 3") is text
    else:
        with pytest.raises(RecordRejected, match="item 3"):
            check_utt_id(text, "item 3")


@pytest.mark.parametrize(("length", "fits"), [(200, True), (201, False)])
def test_id_length_counts_bytes(length: int, fits: bool) -> None:
    for text in ("a" * length, "é" * (length // 2) + "a" * (length % 2)):
        if fits:
            assert check_utt_id(text, "here") == text
        else:
            with pytest.raises(RecordRejected, match="200 bytes"):
                check_utt_id(text, "here")


def test_only_text_is_taken() -> None:
    with pytest.raises(RecordRejected, match="int, not str"):
        check_utt_id(7, "item 0")
    with pytest.raises(RecordRejected, match="'score'.*float, not str"):
        check_scp_value(0.5, "utt1", "score")


@settings(STEADY, max_examples=30)  # each one is two fsyncs
@given(st.dictionaries(GOOD_IDS, GOOD_VALUES))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, items: dict[str, str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "text"
    write_scp(path, items)
    assert list(read_scp(path).items()) == list(items.items())


def test_a_refused_item_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "text.scp"
    write_scp(path, [("a", "ONE")])
    with pytest.raises(RecordRejected, match=r"'b', field 'text'.*U\+2028"):
        write_scp(path, [("a", "TWO"), ("b", "x\u2028a FORGED")])
    with pytest.raises(DataError, match="'a' comes twice"):
        write_scp(path, [("a", "1"), ("a", "2")])
    assert path.read_text() == "a ONE\n"
    assert [p.name for p in tmp_path.iterdir()] == ["text.scp"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a x\nb y\na z\n", "line 3.*'a' is already on line 1"),
        (b"a x\n\nb y\n", "line 2.*is empty"),
        (b"a x\r\n", "line 1.*U[+]000D"),
        (b"a\tx\n", "line 1.*U[+]0009"),
        (b"a \xff\n", "not UTF-8 at byte 2"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "hyp.scp"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"hyp.scp.*{message}"):
        read_scp(path)


def test_reading_by_hand_made_files(tmp_path: Path) -> None:
    path = tmp_path / "x.scp"
    path.write_bytes(b"a  two  spaces \nb\nc last")
    assert read_scp(path) == {"a": " two  spaces ", "b": "", "c": "last"}


def test_trn(tmp_path: Path) -> None:
    write_trn(tmp_path / "hyp.trn", {"a": "ONE TWO", "b": ""})
    assert (tmp_path / "hyp.trn").read_text() == "ONE TWO (a)\n (b)\n"
