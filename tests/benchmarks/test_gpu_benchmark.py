"""The benchmark that keeps GPUs busy: its recordings, its texts, and all of it once on the CPU."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu_corpus
from benchmarks.gpu_report import agreement


@pytest.mark.parametrize(
    ("lengths", "mean", "longest"),
    [("librispeech", 12.3, 35), ("librispeech_test", 7.4, 35), ("prompts", 2.6, 39.3)],
)
def test_lengths_are_those_of_the_corpora(lengths, mean, longest):
    seconds = gpu_corpus.LENGTHS[lengths](np.random.default_rng(0))
    assert np.mean(seconds) == pytest.approx(mean, rel=0.05)
    assert longest * 0.9 < max(seconds) <= longest


def test_recordings_are_as_long_as_they_say_and_the_same_again(tmp_path):
    corpus = gpu_corpus.make("prompts", 0.01, tmp_path / "one")
    dataset = gpu_corpus.Recordings(tmp_path / "one")
    assert [len(item["speech"]) / gpu_corpus.RATE for item in dataset] == corpus.durations()
    gpu_corpus.make("prompts", 0.01, tmp_path / "two")
    again = gpu_corpus.Recordings(tmp_path / "two")
    assert all(
        np.array_equal(one["speech"], other["speech"])
        for one, other in zip(dataset, again, strict=True)
    )
    assert 0.01 * 3600 <= sum(corpus.durations()) <= 0.012 * 3600


def test_a_corpus_longer_than_its_files_has_them_again_under_other_ids(tmp_path, monkeypatch):
    monkeypatch.setitem(gpu_corpus.LENGTHS, "short", lambda rng: [0.5, 1.0])
    corpus = gpu_corpus.make("short", 4.4 / 3600, tmp_path)
    assert corpus.durations() == [0.5, 1.0, 0.5, 1.0, 0.5, 1.0]
    dataset = gpu_corpus.Recordings(tmp_path)
    assert len({item["utt_id"] for item in dataset}) == 6
    assert np.array_equal(dataset[1]["speech"], dataset[5]["speech"])


def test_texts_are_compared_by_utterance_and_by_frame(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("a XXXX\nb YYYY\nc ZZ\nd Q\n")
    other.write_text("b YYYY\na XXXZ\nc ZZZ\n")
    assert agreement(one, other) == {"utterances": 0.5, "frames": 7 / 8, "missing": 2}


def test_variants_give_the_same_texts_on_the_cpu(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from click.testing import CliRunner

    from benchmarks.gpu import main

    out = tmp_path / "figures.json"
    arguments = ["--cpu", "--hours", "0.02", "--lengths", "prompts", "--batch-size", "4"]
    arguments += ["--only", "peer,count,both,limit"]  # the others are halves of `both`
    done = CliRunner().invoke(main, [*arguments, "--out", str(out)])
    figures = json.loads(Path(out).read_text())
    assert not figures["failed"], done.output
    rows = {row["variant"]: row for row in figures["variants"]}
    assert len(rows) == 4
    # The same texts, and batches by length pad less than those by count.
    assert all(row["agreement"]["frames"] > 0.999 for row in list(rows.values())[1:])
    assert rows["by length, loading ahead"]["padding"] < rows["by count, read inline"]["padding"]
