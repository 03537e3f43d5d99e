"""Manifests: TSV and JSON lines, what is refused, and the data set on top."""

import json

import numpy as np
import pytest
import soundfile

from espnet3.components.data.dataset_module import instantiate_dataset_reference
from espnet3.components.data.manifest import ManifestDataset, read_manifest, write_manifest
from espnet3.errors import ConfigError, DataError

ROWS = [
    {"utt_id": "u1", "audio": "wav/a.wav", "seconds": 1.5, "text": "ÉTÉ HOT", "lang": "fr"},
    {"utt_id": "u2", "audio": "wav/b.wav", "seconds": 2.0, "text": "", "lang": "en"},
]
TSV = "utt_id\taudio\tseconds\ttext\tlang\n"
TSV += "u1\twav/a.wav\t1.5\tÉTÉ HOT\tfr\nu2\twav/b.wav\t2.0\t\ten\n"


@pytest.mark.parametrize("name", ["m.tsv", "m.jsonl"])
def test_reading_gives_what_was_written(tmp_path, name):
    write_manifest(tmp_path / name, ROWS)
    assert read_manifest(tmp_path / name) == ROWS
    before = (tmp_path / name).read_bytes()
    assert before == TSV.encode() or name != "m.tsv"
    write_manifest(tmp_path / name, read_manifest(tmp_path / name))
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("utt_id\tpath\nu\ta\n", "line 1: the header has no column 'audio'; it has ['utt_id', 'pa"),
        ("utt_id\taudio\taudio\nu\ta\ta\n", "line 1: the header has an empty column, or one twice"),
        ("utt_id\taudio\nu\n", "line 2: 1 fields under 2 column names"),
        ("utt_id\taudio\nu\ta\nu\tb\n", "line 3: utt_id 'u' is already on line 2"),
        ("utt_id\taudio\n\ta\n", "line 2: utt_id is '', not text"),
        ("utt_id\taudio\nu\tcat a |\n", "line 2: 'u': audio is a file, not a pipe: cat a |"),
        ("utt_id\taudio\tseconds\nu\ta\tlong\n", "line 2: seconds is 'long', not a number"),
        ("utt_id\taudio\tseconds\nu\ta\tnan\n", "line 2: seconds is nan, not a number"),
        ("utt_id\taudio\tstart\tend\nu\ta\t2\t1\n", "line 2: end 1.0 is not behind start 2.0"),
        ("utt_id\taudio\nu\ta\r\n", "line 2: holds a carriage return"),
    ],
)
def test_what_is_wrong_with_a_tsv_is_told_with_file_and_line(tmp_path, text, said):
    (tmp_path / "m.tsv").write_bytes(text.encode())
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path / "m.tsv")
    assert f"{tmp_path / 'm.tsv'}, {said}" in str(caught.value)


def test_what_is_wrong_with_json_lines_is_told_at_once(tmp_path):
    rows = [{"utt_id": "u", "audio": "a"}, {"utt_id": 3, "audio": "a", "duration": "1"}, 7]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    for said in ("line 2: utt_id is 3", "line 2: duration is '1'", "line 3: no JSON object but 7"):
        assert said in str(caught.value)
    assert "line 4: no JSON: Expecting" in str(caught.value)


@pytest.mark.parametrize("value", ["a\tb", "a\n", "a\rb"])
def test_what_a_tsv_cannot_hold_is_not_written(tmp_path, value):
    row = {"utt_id": "u", "audio": "a", "text": value}
    with pytest.raises(DataError, match="line 2: a field holds a tab or a line break"):
        write_manifest(tmp_path / "m.tsv", [row])
    assert list(tmp_path.iterdir()) == []
    write_manifest(tmp_path / "m.jsonl", [row])
    assert read_manifest(tmp_path / "m.jsonl") == [row]


def test_what_json_cannot_hold_is_not_written(tmp_path):
    row = {"utt_id": "u", "audio": "a", "source": tmp_path}
    with pytest.raises(DataError, match="line 1: JSON cannot hold it: .*Path"):
        write_manifest(tmp_path / "m.jsonl", [row])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.tsv", "m.jsonl"])
def test_no_rows_are_a_manifest_too(tmp_path, name):
    write_manifest(tmp_path / name, [])
    assert read_manifest(tmp_path / name) == []


def test_rows_of_different_columns_and_unknown_forms_are_refused(tmp_path):
    with pytest.raises(DataError, match="line 3: has the columns utt_id, audio, not those"):
        write_manifest(tmp_path / "m.tsv", [*ROWS[:1], {"utt_id": "u", "audio": "a"}])
    with pytest.raises(ConfigError, match=r"a manifest is a \.tsv or \.jsonl file"):
        write_manifest(tmp_path / "m.csv", ROWS)


@pytest.fixture
def audio(tmp_path):
    (tmp_path / "wav").mkdir()
    soundfile.write(tmp_path / "wav" / "a.wav", np.arange(12000, dtype=np.int16), 8000)
    soundfile.write(tmp_path / "wav" / "b.wav", np.arange(16000, dtype=np.int16), 8000)
    return tmp_path


def test_items_and_what_is_known_without_audio(audio):
    write_manifest(audio / "m.tsv", ROWS)
    entry = {
        "data_src": "espnet3.components.data.manifest",
        "data_src_args": {"path": str(audio / "m.tsv")},
    }
    dataset = instantiate_dataset_reference(entry)
    item = dataset[0]
    assert (item.pop("speech") * 32768).tolist() == list(range(12000))
    assert item == {k: v for k, v in {**ROWS[0], "sample_rate": 8000}.items() if k != "audio"}
    assert (len(dataset), dataset.utt_id(1)) == (2, "u2")
    assert dataset.durations() == [1.5, 2.0]
    assert dataset.column("lang") == ["fr", "en"]
    for name in ("audio", "speech", "nothing"):
        with pytest.raises(KeyError):
            dataset.column(name)


def test_stretches_of_a_file(audio):
    rows = [
        {"utt_id": "u1", "audio": "wav/a.wav", "start": 0.5, "end": 1.0},
        {"utt_id": "u2", "audio": "wav/b.wav", "end": 0.25},
        {"utt_id": "u3", "audio": "wav/b.wav", "start": 1.75},
    ]
    write_manifest(audio / "m.jsonl", rows)
    dataset = ManifestDataset(audio / "m.jsonl")
    assert (dataset[0]["speech"] * 32768).tolist() == list(range(4000, 8000))
    assert (dataset[1]["speech"] * 32768).tolist() == list(range(2000))
    assert (dataset[2]["speech"] * 32768).tolist() == list(range(14000, 16000))
    assert not hasattr(dataset, "durations")  # nobody knows that of u3
    write_manifest(audio / "m.jsonl", rows[:2])
    assert ManifestDataset(audio / "m.jsonl").durations() == [0.5, 0.25]


def test_fingerprint_changes_with_the_rows(audio):
    write_manifest(audio / "m.tsv", ROWS)
    before = ManifestDataset(audio / "m.tsv").fingerprint()
    write_manifest(audio / "m.jsonl", ROWS)
    assert ManifestDataset(audio / "m.jsonl").fingerprint() == before
    write_manifest(audio / "m.tsv", [{**ROWS[0], "text": "A"}, ROWS[1]])
    assert ManifestDataset(audio / "m.tsv").fingerprint() != before
