"""`BuildRecord`: whole output of a build, told from half of it."""

import pytest

from espnet3.components.data.build_record import BuildRecord


@pytest.fixture
def built(tmp_path):
    (tmp_path / "data/wav").mkdir(parents=True)
    files = [tmp_path / "data/wav.scp", tmp_path / "data/wav/a.wav"]
    for path in files:
        path.write_text("content")
    BuildRecord(tmp_path / "data", {"rate": 16000}).write(files)
    return tmp_path / "data"


def test_complete_build_stays_complete_where_it_is_moved_to(built, tmp_path):
    record = BuildRecord(built, {"rate": 16000})
    assert record.is_complete()
    assert record.problem() == ""
    moved = built.rename(tmp_path / "moved")
    assert BuildRecord(moved, {"rate": 16000}).is_complete()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: (data / "wav/a.wav").unlink(), r"wav/a\.wav is not there any more"),
        (lambda data: (data / "wav.scp").write_text("con"), r"wav\.scp has 3 bytes; .* had 7"),
        (lambda data: (data / "built.json").unlink(), "a build did not end"),
        (lambda data: (data / "built.json").write_text("[1"), r"built\.json cannot be read"),
        (lambda data: (data / "built.json").write_text("[]"), r"built\.json cannot be read"),
        (lambda data: BuildRecord(data).clear(), "a build did not end"),
    ],
)
def test_what_is_missing_is_named(built, damage, words):
    record = BuildRecord(built, {"rate": 16000})
    damage(built)
    assert not record.is_complete()
    with pytest.raises(AssertionError, match=words):
        assert not record.problem(), record.problem()


def test_other_settings_are_another_build(built, caplog):
    caplog.set_level("INFO", "espnet3")
    assert not BuildRecord(built, {"rate": 8000}).is_complete()
    assert "was built with rate: 16000; now it is 8000" in caplog.text
    assert not BuildRecord(built, {"rate": 16000, "channel": 1}).is_complete()


def test_nothing_counts_as_built_if_a_file_is_not_there(tmp_path):
    record = BuildRecord(tmp_path)
    with pytest.raises(FileNotFoundError):
        record.write([tmp_path / "nothing"])
    assert not record.is_complete()
    assert list(tmp_path.iterdir()) == []
