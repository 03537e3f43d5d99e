"""Kaldi data directories: what is read, refused, written and mended, and the data set on top."""

import logging
import pickle

import av
import kaldiio
import numpy as np
import pytest
import soundfile

from espnet3.components.data.dataset import CombinedDataset, DatasetWithTransform
from espnet3.components.data.dataset_module import instantiate_dataset_reference
from espnet3.components.data.kaldi.directory import (
    KALDI_REQUIRES,
    fix_kaldi_dir,
    read_kaldi_dir,
    write_kaldi_dir,
)
from espnet3.components.data.kaldi_dataset import KaldiDataset
from espnet3.errors import DataError

UTTS = ["ann-1", "ann-2", "bob-1"]
FILES = {
    "wav.scp": "ann-1 a1.wav\nann-2 a2.wav\nbob-1 b1.wav\n",
    "text": "ann-1 ÉTÉ  HOT\nann-2\nbob-1 NO\n",
    "utt2spk": "ann-1 ann\nann-2 ann\nbob-1 bob\n",
    "spk2utt": "ann ann-1 ann-2\nbob bob-1\n",
    "utt2num_samples": "ann-1 8000\nann-2 4000\nbob-1 16000\n",
}
SEGMENTS = {
    "wav.scp": "callA a.flac\ncallB b.flac\n",
    "segments": "ann-1 callA 0.5 1.0\nann-2 callA 1 2.25\nbob-1 callB 0 0.5\n",
}


def make(folder, files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def problems(folder, **kwargs):
    with pytest.raises(DataError) as caught:
        read_kaldi_dir(folder, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("extra", [{}, SEGMENTS], ids=["recordings", "segments"])
def test_reading_and_writing_gives_the_same_bytes(tmp_path, extra):
    folder = make(tmp_path / "data", {**FILES, **extra})
    read = read_kaldi_dir(folder, require=KALDI_REQUIRES)
    assert read.utterances == UTTS
    assert read["text"].as_dict() == {"ann-1": "ÉTÉ  HOT", "ann-2": "", "bob-1": "NO"}
    files = {name: table.as_dict() for name, table in read.tables.items()}
    del files["spk2utt"]  # made of utt2spk
    for name in files:  # the order in which they are given does not matter
        files[name] = dict(reversed(files[name].items()))
    write_kaldi_dir(tmp_path / "copy", files)
    assert content(tmp_path / "copy") == content(folder)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("text", b"ann-1 A\nann-2 \xff\nbob-1 C\n", "text, line 2: not UTF-8 (byte 0xff)"),
        ("text", "ann-1 A\nann-2 B\nbob-1 C", "text, line 3: the last line does not end"),
        ("text", "ann-1 A\nann-2 B \nbob-1 C\n", "text, line 2: the line ends with white space"),
        ("text", "ann-1 A\n\nann-2 B\nbob-1 C\n", "text, line 2: the line is blank"),
        ("text", "ann-1 A\nann-2 B\r\nbob-1 C\n", r"text, line 2: the line holds '\r' at"),
        ("text", "ann-1 A\nann-2 B\u3000B\nbob-1 C\n", r"line 2: the line holds '\u3000' at"),
        ("text", "\ufeffann-1 A\nann-2 B\nbob-1 C\n", r"line 1: the line holds '\ufeff' at"),
        ("text", "ann-1 A\nann-2 B <s>\nbob-1 C\n", "line 2: 'ann-2' holds the symbol <s>"),
        ("text", "ann-1 A\nann-1 B\nann-2 B\nbob-1 C\n", "2: 'ann-1' is already on line 1"),
        ("text", "ann-2 A\nann-1 B\nbob-1 C\n", "line 2: 'ann-1' comes after 'ann-2'"),
        ("text", "ann-1 A\nbob-1 C\n", "text: 'ann-2' is in utt2spk (line 2), but not here"),
        ("text", "ann-1 A\nann-2 B\nbob-1 C\nbob-2 D\n", "line 4: 'bob-2' is not in utt2spk"),
        ("text", "", "text: is empty"),
        ("utt2spk", "ann-1 ann\nann-2 ann x\nbob-1 bob\n", "line 2: 'ann-2' has not one speaker"),
        ("spk2utt", "ann ann-1\nbob ann-2 bob-1\n", "line 1: the utterances of 'ann' are not"),
        ("spk2utt", "ann ann-1 ann-2\n", "spk2utt: speaker 'bob' of utt2spk is not here"),
        ("utt2num_samples", "ann-1 1\nann-2 -5\nbob-1 7.5\n", "line 3: 'bob-1': '7.5' is not an"),
        ("wav.scp", "ann-1 a\nann-2\nbob-1 c\n", "wav.scp, line 2: 'ann-2' has no file"),
        ("wav.scp", "ann-1 a\nann-2 ~/b\nbob-1 c\n", "line 2: 'ann-2': ~/b begins with ~"),
        ("wav.scp", "ann-1 a\nann-2 -\nbob-1 c\n", "line 2: 'ann-2': '-' is no input file"),
        ("wav.scp", "ann-1 a\nann-2 rm x |\nbob-1 c\n", "line 2: 'ann-2' is a pipe, which would"),
        ("feats.scp", "ann-1 a\nann-2 rm x |\nbob-1 c\n", "line 2: 'ann-2' is a pipe"),
        ("segments", "ann-1 ann-1 0 1\nann-2 ann-2 1 1\nbob-1 bob-1 0 1\n", "line 2: 'ann-2': 'an"),
        ("segments", "ann-1 ann-1 0 1\nann-2 x 0 1\nbob-1 bob-1 0 1\n", "'x' is not in wav.scp"),
        ("segments", "ann-1 ann-1 0 1\nann-2 x 0 1\nbob-1 bob-1 0 1\n", "wav.scp, line 2: record"),
        ("segments", "ann-1 ann-1\t0\t1\nann-2 x\t0 1\nbob-1 bob-1 0 1\n", "'x' is not in wav.scp"),
        ("utt2dur", "ann-1 1\nann-2 nan\nbob-1 1\n", "utt2dur, line 2: 'ann-2': 'nan' is not"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_file_and_line(tmp_path, name, text, said):
    told = problems(make(tmp_path, {**FILES, name: text}))
    assert said in told
    assert str(tmp_path / name) in told or name == "segments"


def test_all_problems_are_told_at_once_and_of_many_alike_the_first(tmp_path):
    many = "".join(f"x{i:03d} A\n" for i in range(300))
    told = problems(make(tmp_path, {**FILES, "text": many, "wav.scp": "ann-1 |\n"}))
    assert "text, line 5: 'x004' is not in utt2spk" in told
    assert "text: 295 more like this (not in utt2spk)" in told
    assert "text: 'bob-1' is in utt2spk (line 3), but not here" in told
    assert "wav.scp, line 1: 'ann-1'" in told
    assert len(told.splitlines()) < 20


def test_missing_files_are_told(tmp_path):
    folder = make(tmp_path, {"text": "a A\n"})
    assert "wav.scp: is not there" in problems(folder, require=KALDI_REQUIRES)
    assert read_kaldi_dir(folder).utterances == ["a"]
    assert "has none of wav.scp" in problems(make(tmp_path / "none", {}))
    assert "segments is" in problems(make(tmp_path / "s", {"segments": "a r 0 1\n"}))


def test_speakers_that_do_not_sort_are_warned_of(tmp_path, caplog):
    make(tmp_path, {"utt2spk": "u1 bob\nu2 ann\n", "spk2utt": "ann u2\nbob u1\n"})
    with caplog.at_level(logging.WARNING):
        read_kaldi_dir(tmp_path)
    assert "utt2spk, line 2: sorted by utterance, but not by speaker" in caplog.text


@pytest.mark.parametrize(
    "text", [{"a": "x\ny"}, {"a b": "x"}, {"": "x"}, {"a": "x "}, {"a": "\ud800"}, {"b": "x"}]
)
def test_what_could_not_be_read_back_is_not_written(tmp_path, text):
    with pytest.raises(DataError, match="nothing was written"):
        write_kaldi_dir(tmp_path, {"utt2spk": {"a": "s"}, "text": text})
    assert list(tmp_path.iterdir()) == []


def test_fixing_sorts_and_keeps_what_all_files_have(tmp_path):
    untidy = {
        "wav.scp": "callB  b.flac\ncallA\ta.flac \ncallC c.flac\n",
        "segments": "bob-1\tcallB\t0\t0.5\nann-2 callA 1 2.25\nann-1 callA 0.5 1.0\nz callZ 0 1\n",
        "text": "bob-1 NO\r\nann-1 ÉTÉ\u3000HOT\n\nann-1 AGAIN\nann-2 \n",
        "utt2spk": "bob-1 bob\nann-1 ann\nann-2 ann\nc-1 c",
    }
    folder = make(tmp_path / "data", untidy)
    assert fix_kaldi_dir(folder) == {"wav.scp": 1, "segments": 1, "text": 2, "utt2spk": 1}
    fixed = content(folder)
    tidy = {**FILES, **SEGMENTS, "text": "ann-1 ÉTÉ HOT\nann-2\nbob-1 NO\n"}
    del tidy["utt2num_samples"]
    tidy["segments"] = tidy["segments"].replace("callB 0 0.5", "callB\t0\t0.5")
    assert fixed == {name: text.encode() for name, text in tidy.items()}
    assert content(folder / ".backup") == {name: text.encode() for name, text in untidy.items()}
    read_kaldi_dir(folder, require=KALDI_REQUIRES)


def test_fixing_what_leaves_nothing_changes_nothing(tmp_path):
    folder = make(tmp_path / "data", {**FILES, "text": "someone-else A\n"})
    before = content(folder)
    with pytest.raises(DataError, match="text: is empty"):
        fix_kaldi_dir(folder)
    assert content(folder) == before


def test_fixing_does_not_destroy_what_it_cannot_read(tmp_path):
    folder = make(tmp_path, {**FILES, "text": "ann-1 ÉTÉ\nann-2 B\nbob-1 C\n".encode("latin-1")})
    before = content(folder)
    with pytest.raises(DataError, match=r"text, line 1: not UTF-8 \(byte 0xc9\)"):
        fix_kaldi_dir(folder)
    assert content(folder) == before


# the data set


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A directory with audio files; sample i of each recording is i / 32768."""
    monkeypatch.chdir(tmp_path)
    for name, n in (("a1.wav", 8000), ("a2.wav", 4000), ("b1.wav", 16000)):
        soundfile.write(name, np.arange(n, dtype=np.int16), 8000)
    for name, n in (("a.flac", 18000), ("b.flac", 4100)):
        soundfile.write(name, np.arange(n, dtype=np.int16), 8000)
    return make(tmp_path / "data", FILES)


def test_items_and_what_is_known_without_audio(corpus):
    dataset = KaldiDataset(corpus)
    item = dataset[0]
    assert item.pop("speech").dtype == np.float32
    assert item == {"utt_id": "ann-1", "sample_rate": 8000, "text": "ÉTÉ  HOT", "speaker": "ann"}
    assert (dataset[2]["speech"] * 32768).tolist() == list(range(16000))
    assert (len(dataset), dataset.utt_id(2)) == (3, "bob-1")
    assert dataset.durations() == [1.0, 0.5, 2.0]
    assert dataset.column("text") == ["ÉTÉ  HOT", "", "NO"]
    assert dataset.column("speaker") == ["ann", "ann", "bob"]
    with pytest.raises(KeyError):
        dataset.column("speech")
    assert dataset.thread_safe


def test_segments_are_cut_without_reading_the_whole_file(corpus, monkeypatch):
    make(corpus, SEGMENTS)
    dataset, frames, read = KaldiDataset(corpus), [], soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda *a, **k: frames.append(a[1]) or read(*a, **k)
    )
    assert (dataset[0]["speech"] * 32768).tolist() == list(range(4000, 8000))
    assert (dataset[1]["speech"] * 32768).tolist() == list(range(8000, 18000))
    assert frames == [4000, 10000]
    assert dataset.durations() == [0.5, 1.25, 0.5]


@pytest.mark.parametrize(("times", "samples"), [("0 0.9", 4100), ("0 1.1", None), ("1 2", None)])
def test_segment_behind_the_end_is_cut_by_half_a_second_at_most(corpus, times, samples):
    make(corpus, SEGMENTS)
    segments = SEGMENTS["segments"].replace("callB 0 0.5", f"callB {times}")
    dataset = KaldiDataset(make(corpus, {"segments": segments}))
    if samples:
        assert len(dataset[2]["speech"]) == samples
    else:
        with pytest.raises(DataError, match=r"'bob-1': b.flac: ends (at|before)"):
            _ = dataset[2]


def test_durations_are_there_only_where_they_are_known(corpus):
    dataset = KaldiDataset(corpus)
    assert hasattr(DatasetWithTransform(dataset), "durations")
    assert KaldiDataset(corpus, sample_rate=16000).durations() == [0.5, 0.25, 1.0]
    assert pickle.loads(pickle.dumps(dataset)).durations() == [1.0, 0.5, 2.0]
    (corpus / "utt2num_samples").unlink()
    without = KaldiDataset(corpus)
    assert not hasattr(without, "durations")
    assert not hasattr(CombinedDataset([dataset, without]), "durations")
    make(corpus, {"utt2dur": "ann-1 3\nann-2 2.5\nbob-1 1\n"})
    assert KaldiDataset(corpus).durations() == [3.0, 2.5, 1.0]


def test_fingerprint_changes_with_the_data_and_only_then(corpus):
    before = KaldiDataset(corpus).fingerprint()
    (corpus / "utt2num_samples").unlink()
    assert KaldiDataset(corpus).fingerprint() == before
    make(corpus, {"text": FILES["text"].replace("NO", "YES")})
    assert KaldiDataset(corpus).fingerprint() != before


def test_pipes_run_only_where_they_are_allowed(corpus):
    scp = FILES["wav.scp"].replace("a1.wav", "touch ran; cat a1.wav |")
    make(corpus, {"wav.scp": scp.replace("a2.wav", "echo no such thing >&2; false |")})
    with pytest.raises(DataError, match=r"wav\.scp, line 1: 'ann-1' is a pipe"):
        KaldiDataset(corpus)
    assert not (corpus.parent / "ran").exists()
    dataset = KaldiDataset(corpus, allow_pipes=True)
    assert len(dataset[0]["speech"]) == 8000
    with pytest.raises(DataError, match=r"(?s)'ann-2'.*status 1: no such thing"):
        _ = dataset[1]
    assert not hasattr(dataset, "durations")  # the rate would cost running a pipe


@pytest.mark.parametrize("form", [{}, {"write_function": "soundfile"}])
def test_audio_in_arks(corpus, form):
    audio = {utt: np.arange(n, dtype=np.int16) for utt, n in zip(UTTS, (8, 4, 16), strict=True)}
    pairs = {utt: (8000, samples) for utt, samples in audio.items()}
    kaldiio.save_ark("wav.ark", pairs, scp=str(corpus / "wav.scp"), **form)
    dataset = KaldiDataset(corpus)
    for i, utt in enumerate(UTTS):
        assert (dataset[i]["speech"] * 32768).tolist() == audio[utt].tolist()
        assert dataset[i]["speech"].dtype == np.float32
    assert dataset.durations() == [1.0, 0.5, 2.0]  # the rate is in the ark


def test_features_where_there_is_no_audio(corpus):
    (corpus / "wav.scp").unlink()
    feats = {utt: np.full((i + 1, 2), i, dtype=np.float32) for i, utt in enumerate(UTTS)}
    kaldiio.save_ark("feats.ark", feats, scp=str(corpus / "feats.scp"))
    item = KaldiDataset(corpus)[2]
    assert item["feats"].tolist() == [[2.0, 2.0]] * 3
    assert "speech" not in item


def test_pickle_in_an_ark_is_refused(corpus):
    kaldiio.save_ark("p.ark", {"ann-1": [1]}, write_function="pickle")
    make(corpus, {"wav.scp": FILES["wav.scp"].replace("a1.wav", "p.ark:6")})
    with pytest.raises(DataError, match="'ann-1': p.ark:6: is a Python pickle"):
        _ = KaldiDataset(corpus)[0]


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("gone.ark:6", "gone.ark:6: cannot be read: No such file"),
        ("junk.ark:3", "junk.ark:3: no entry of an ark begins there"),
        ("junk.ark:99", "junk.ark:99: no entry of an ark begins there"),
    ],
)
def test_place_without_an_entry_is_named(corpus, place, problem):
    (corpus.parent / "junk.ark").write_bytes(b"abcdefghijklmnop")
    make(corpus, {"wav.scp": FILES["wav.scp"].replace("a1.wav", place)})
    with pytest.raises(DataError, match=f"'ann-1': {problem}"):
        _ = KaldiDataset(corpus)[0]


def test_one_of_several_channels_is_chosen(corpus):
    soundfile.write("a1.wav", np.array([[0.25, 0.5]] * 3), 8000)
    with pytest.raises(DataError, match="'ann-1': a1.wav: has 2 channels; choose one"):
        _ = KaldiDataset(corpus)[0]
    assert KaldiDataset(corpus, channel=1)[0]["speech"].tolist() == [0.5] * 3


def test_formats_that_soundfile_does_not_know_are_read_too(corpus):
    with av.open("a1.g722", "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 16000), 8192, np.int16), "s16", "mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    make(corpus, {"wav.scp": FILES["wav.scp"].replace("a1.wav", "a1.g722")})
    item = KaldiDataset(corpus)[0]
    assert (item["sample_rate"], len(item["speech"])) == (16000, 16000)


def test_config_names_a_directory_without_any_code(corpus):
    entry = {"data_src": "espnet3.components.data.kaldi_dataset", "data_src_args": {"path": "data"}}
    assert instantiate_dataset_reference(entry).utt_id(0) == "ann-1"
