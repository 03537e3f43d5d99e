"""Formatting audio: what comes out, whoever did it, and what happens to bad files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
import soundfile

from espnet3.components.data.audio import files as audio_files
from espnet3.components.data.format_audio import FormattedAudio, format_audio
from espnet3.components.data.utterances import Utterance, kaldi_utterances
from espnet3.errors import ConfigError, DataError, IdentityChanged, RunFailed, RunStopped
from espnet3.parallel.parallel import parallel_session, reset_parallel, set_parallel
from espnet3.runs import clean
from espnet3.utils.scp import read_scp

from ..parallel.drivers import kill_when

RATE = 16000


@pytest.fixture(autouse=True)
def _nothing_is_set() -> Iterator[None]:
    reset_parallel()
    yield
    reset_parallel()


def noise(seconds: float, seed: int) -> Any:
    samples = np.random.default_rng(seed).integers(-32768, 32768, round(seconds * RATE))
    return samples.astype(np.int16)


@pytest.fixture
def sources(tmp_path: Path) -> list[tuple[str, Path]]:
    """Eight recordings, each of another length."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    made = []
    for i in range(8):
        made.append((f"utt{i}", folder / f"{i}.flac"))
        soundfile.write(made[-1][1], noise(0.1 + 0.05 * i, i), RATE)
    return made


def lines(path: Path) -> list[list[str]]:
    return [line.split(" ") for line in path.read_text().splitlines()]


def tree(out: Path) -> dict[str, bytes]:
    """All that was published."""
    files = [p for p in sorted(out.rglob("*")) if p.is_file() and "run" not in p.parts]
    found = {str(p.relative_to(out)): p.read_bytes() for p in files}
    found["wav.scp"] = found["wav.scp"].replace(bytes(out), b"OUT")
    return found


def test_files_and_tables(sources: list[tuple[str, Path]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = format_audio(sources, out)
    assert made == FormattedAudio(out / "wav.scp", out / "utt2num_samples", 8, pytest.approx(2.2))
    paths = dict(lines(made.wav_scp))
    assert list(paths) == [utt for utt, _ in sources]
    assert paths["utt3"] == str(out / "audio" / "utt3.flac")
    assert dict(lines(made.utt2num_samples))["utt3"] == str(round(0.25 * RATE))
    for i, (utt, _) in enumerate(sources):
        samples, rate = soundfile.read(paths[utt], dtype="int16")
        assert rate == RATE
        assert np.array_equal(samples, noise(0.1 + 0.05 * i, i))
        assert soundfile.info(paths[utt]).subtype == "PCM_16"


@pytest.mark.parametrize("audio_format", ["flac", "wav", "flac.ark"])
def test_the_bytes_do_not_depend_on_who_made_them(
    audio_format: str, sources: list[tuple[str, Path]], tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    format_audio(sources, alone, audio_format=audio_format, sample_rate=8000)
    with parallel_session({"n_workers": 2}):
        format_audio(sources, shared, audio_format=audio_format, sample_rate=8000)
    assert tree(alone) == tree(shared)


def test_an_ark_is_read_by_kaldiio(sources: list[tuple[str, Path]], tmp_path: Path) -> None:
    made = format_audio(sources, tmp_path / "out", audio_format="flac.ark")
    loaded = kaldiio.load_scp(str(made.wav_scp))
    assert list(loaded) == [utt for utt, _ in sources]
    for i, (utt, _) in enumerate(sources):
        rate, samples = loaded[utt]
        assert rate == RATE
        assert np.array_equal(samples * 32768, noise(0.1 + 0.05 * i, i))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "run", "utt2num_samples", "wav", "wav.scp"
    ]  # fmt: skip
    again = format_audio(
        [(u, loaded_path) for u, loaded_path in lines(made.wav_scp)], tmp_path / "2"
    )
    assert again.seconds == made.seconds


def test_the_shards_of_arks_may_go(sources: list[tuple[str, Path]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = format_audio(sources, out, audio_format="flac.ark")
    before = tree(out)
    assert clean(out / "run/format_audio") == 1
    assert format_audio(sources, out, audio_format="flac.ark") == made
    assert tree(out) == before
    (out / "wav/wav.1.ark").unlink()
    with pytest.raises(DataError, match=r"wav.1.ark is not what was published.*espnet3 clean"):
        format_audio(sources, out, audio_format="flac.ark")
    with parallel_session(run={"resume": False}):
        assert format_audio(sources, out, audio_format="flac.ark") == made
    assert tree(out) == before


def test_a_step_that_starts_over_by_itself_tells_nobody_to_leave_that_out(
    sources: list[tuple[str, Path]], tmp_path: Path
) -> None:
    format_audio(sources, tmp_path / "out")
    (tmp_path / "bad.wav").touch()
    longer = [*sources, ("bad", tmp_path / "bad.wav")]
    with pytest.raises(RunFailed, match="Run the same again to retry"):
        format_audio(longer, tmp_path / "out")
    with (
        parallel_session(run={"resume": False}),
        pytest.raises(RunFailed, match="Run the same again without `resume: false` to retry"),
    ):
        format_audio(longer, tmp_path / "out")


def test_a_limited_run_publishes_nothing(sources: list[tuple[str, Path]], tmp_path: Path) -> None:
    with parallel_session(run={"limit": 1}), pytest.raises(RunStopped, match="leave run.limit out"):
        format_audio(sources, tmp_path / "out")
    assert format_audio(sources, tmp_path / "out").n_utterances == len(sources)


def test_segments_channels_and_rates(tmp_path: Path) -> None:
    kaldi, stereo = tmp_path / "kaldi", tmp_path / "rec.wav"
    kaldi.mkdir()
    left, right = noise(2, 1), noise(2, 2)
    soundfile.write(stereo, np.stack([left, right], axis=1), RATE)
    (kaldi / "wav.scp").write_text(f"rec {stereo}\n")
    (kaldi / "segments").write_text("rec-1 rec 0 0.5\nrec-2 rec 0.5 2.1\n")
    utterances = kaldi_utterances(kaldi)
    assert utterances[0] == Utterance("rec-1", str(stereo), 0.0, 0.5)
    made = format_audio(utterances, tmp_path / "out", audio_format="wav", channel=1)
    assert [int(n) for _, n in lines(made.utt2num_samples)] == [8000, 24000]
    samples = soundfile.read(tmp_path / "out/audio/rec-2.wav", dtype="int16")[0]
    assert np.array_equal(samples, right[8000:])
    at_8 = format_audio(utterances, tmp_path / "8k", channel="mean", sample_rate=8000)
    assert [int(n) for _, n in lines(at_8.utt2num_samples)] == [4000, 12000]


def test_bad_files_cost_themselves_alone(sources: list[tuple[str, Path]], tmp_path: Path) -> None:
    out, good = tmp_path / "out", sources[5][1].read_bytes()
    sources[2][1].write_bytes(b"")
    sources[5][1].write_bytes(good[: len(good) // 2])
    with pytest.raises(RunFailed, match="2 of 8") as caught:
        format_audio(sources, out)
    failed = {entry["utterance"]: entry["message"] for entry in caught.value.failures}
    assert failed.keys() == {"utt2", "utt5"}
    assert "2.flac: is empty (0 bytes)" in failed["utt2"]
    assert "5.flac: damaged or cut short" in failed["utt5"]
    told = (out / "run/format_audio/failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["utterance"] for line in told] == ["utt2", "utt5"]
    assert not (out / "wav.scp").exists()
    assert "runner" not in str(caught.value)  # which the caller does not have

    sources[5][1].write_bytes(good)
    before = (out / "audio/utt0.flac").stat().st_ino
    set_parallel({"on_error": "skip"})
    made = format_audio(sources, out)
    assert made.n_utterances == 7
    assert "utt2" not in dict(lines(made.wav_scp))
    assert (out / "audio/utt0.flac").stat().st_ino == before


def test_a_finished_run_only_looks_whether_all_is_there(
    sources: list[tuple[str, Path]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = format_audio(sources, out)
    before = {path: path.stat().st_ino for path in (out / "audio").iterdir()}
    assert format_audio(sources, out) == first
    assert {path: path.stat().st_ino for path in (out / "audio").iterdir()} == before
    (out / "audio/utt4.flac").unlink()
    assert format_audio(sources, out) == first
    after = {path: path.stat().st_ino for path in (out / "audio").iterdir()}
    assert [path.name for path in after if after[path] != before[path]] == ["utt4.flac"]


def test_sources_are_never_overwritten(sources: list[tuple[str, Path]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    format_audio(sources, out)
    inside = [("utt0", out / "audio" / "utt1.flac"), ("utt1", out / "audio" / "utt0.flac")]
    with pytest.raises(DataError, match="'utt0': its audio .* lies in .*choose another out_dir"):
        format_audio(inside, out)
    link = tmp_path / "link.flac"
    link.symlink_to(out / "audio" / "utt1.flac")
    with pytest.raises(DataError, match=r"'utt0': its audio .*link.flac lies in"):
        format_audio([("utt0", link)], out)


def test_arks_that_are_sources_are_not_overwritten(
    sources: list[tuple[str, Path]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    scp = format_audio(sources, out, audio_format="flac.ark").wav_scp
    inside = [(utt, place) for utt, place in lines(scp)][::-1]
    with pytest.raises(DataError, match="'utt7': its audio .* lies in .*choose another out_dir"):
        format_audio(inside, out, audio_format="flac.ark")


def test_the_table_of_the_sources_is_not_overwritten(
    sources: list[tuple[str, Path]], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "wav.scp").write_text("".join(f"{utt} {path}\n" for utt, path in sources))
    before = (data / "wav.scp").read_bytes()
    with pytest.raises(DataError, match=r"data/wav.scp was not written by this step"):
        format_audio(kaldi_utterances(data), data)
    assert (data / "wav.scp").read_bytes() == before
    made = format_audio(kaldi_utterances(data), tmp_path / "out")
    shutil.rmtree(tmp_path / "out/run")
    assert format_audio(kaldi_utterances(data), tmp_path / "out") == made


def test_many_files_are_spread_over_directories(
    sources: list[tuple[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_files, "FILES_IN_A_DIRECTORY", 3)
    made = format_audio(sources, tmp_path / "out")
    folders = {Path(path).parent.relative_to(tmp_path / "out") for _, path in lines(made.wav_scp)}
    assert all(len(f.parts) == 2 and len(f.name) == 1 for f in folders)
    assert len(folders) > 1


def test_a_list_that_grows_to_many_leaves_what_is_there_where_it_is(
    sources: list[tuple[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_files, "FILES_IN_A_DIRECTORY", 3)
    out = tmp_path / "out"
    before = lines(format_audio(sources[:3], out).wav_scp)
    made = lines(format_audio(sources, out).wav_scp)
    assert made[:3] == before
    assert len(made) == len(sources)
    assert all(Path(path).exists() for _, path in made)


def test_wrong_arguments(sources: list[tuple[str, Path]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="audio_format: 'mp3' is none of flac, wav, flac.ark"):
        format_audio(sources, tmp_path / "out", audio_format="mp3")
    with pytest.raises(ConfigError, match="channel: -1"):
        format_audio(sources, tmp_path / "out", channel=-1)
    for wrong in ("utt", ("utt",), ("utt", None), ("utt", "a.wav", "x"), ("utt", "a", 0, 1, 2)):
        with pytest.raises(DataError, match=r"utterance 0: .* is neither \(id, file\) nor"):
            format_audio([wrong], tmp_path / "out")  # type: ignore[list-item]
    with pytest.raises(RunFailed, match="no segment goes from 0.0 to inf"):
        format_audio([("utt", sources[0][1], 0, float("inf"))], tmp_path / "inf")  # type: ignore
    with pytest.raises(DataError, match="utterance 'utt0' comes twice"):
        format_audio([sources[0], sources[0]], tmp_path / "out")


def test_a_command_runs_only_when_allowed(sources: list[tuple[str, Path]], tmp_path: Path) -> None:
    wav = tmp_path / "a.wav"
    soundfile.write(wav, noise(0.5, 1), RATE)
    piped = [("utt", f"cat {wav} |")]
    with pytest.raises(RunFailed, match="allow_pipes: true"):
        format_audio(piped, tmp_path / "out")
    made = format_audio(piped, tmp_path / "other", allow_pipes=True)
    assert made.seconds == 0.5


def test_killed_and_called_again(tmp_path: Path) -> None:
    source, out = tmp_path / "a.wav", tmp_path / "out"
    soundfile.write(source, noise(20, 3), RATE)
    utterances = [(f"utt{i:03d}", str(source)) for i in range(60)]
    (tmp_path / "list.json").write_text(json.dumps(utterances))
    program = (
        "import json, sys\n"
        "from espnet3.components.data.format_audio import format_audio\n"
        "format_audio(json.load(open(sys.argv[1])), sys.argv[2], sample_rate=22050)\n"
    )
    arguments = ("-c", program, tmp_path / "list.json", out)
    kill_when(lambda: len(list(out.glob("audio/*.flac"))) >= 5, *arguments)
    (out / ".wav.scp.77.tmp").touch()  # of one that was killed while it published
    format_audio(utterances, out, sample_rate=22050)
    format_audio(utterances, tmp_path / "whole", sample_rate=22050)
    assert tree(out) == tree(tmp_path / "whole")


def test_a_directory_that_was_moved_gets_new_tables(
    sources: list[tuple[str, Path]], tmp_path: Path
) -> None:
    format_audio(sources, tmp_path / "out")
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    inode = (moved / "audio/utt0.flac").stat().st_ino
    made = format_audio(sources, moved)
    assert dict(lines(made.wav_scp))["utt0"] == str(moved / "audio/utt0.flac")
    assert (moved / "audio/utt0.flac").stat().st_ino == inode


def test_other_arguments_are_refused(sources: list[tuple[str, Path]], tmp_path: Path) -> None:
    format_audio(sources, tmp_path / "out")
    with pytest.raises(IdentityChanged, match="sample_rate"):
        format_audio(sources, tmp_path / "out", sample_rate=8000)
    with pytest.raises(IdentityChanged, match="sample_rate"):
        format_audio(sources[:5], tmp_path / "out", sample_rate=8000)
    set_parallel({"resume": False})
    assert format_audio(sources[:5], tmp_path / "out", sample_rate=8000).n_utterances == 5


def made_at(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (out / "audio").iterdir()}


def test_another_list_makes_no_more_than_it_must(
    sources: list[tuple[str, Path]], tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", format_audio(sources, tmp_path / "whole")
    first = format_audio(sources[1:5], out)
    before = made_at(out)
    again = format_audio(sources, out)
    assert (again.n_utterances, again.seconds) == (whole.n_utterances, whole.seconds)
    assert again.utt2num_samples.read_bytes() == whole.utt2num_samples.read_bytes()
    assert list(read_scp(again.wav_scp)) == [utt_id for utt_id, _ in sources]
    assert before.items() <= made_at(out).items()
    before = made_at(out)
    assert format_audio(sources[1:5], out) == first  # and back, with nothing to do
    assert format_audio(sources[::-1], out).n_utterances == len(sources)
    assert made_at(out) == before


def test_broken_source_may_be_left_out_or_mended(
    sources: list[tuple[str, Path]], tmp_path: Path
) -> None:
    out, (utt_id, source) = tmp_path / "out", sources[2]
    good = source.read_bytes()
    source.write_bytes(b"")
    with pytest.raises(RunFailed, match=utt_id):
        format_audio(sources, out)
    before = made_at(out)
    assert len(before) == len(sources) - 1
    others = [one for one in sources if one[0] != utt_id]
    assert format_audio(others, out).n_utterances == len(others)
    assert made_at(out) == before
    source.write_bytes(good)
    assert format_audio(sources, out).n_utterances == len(sources)
    assert before.items() <= made_at(out).items()


def test_source_with_new_content_is_made_again(
    sources: list[tuple[str, Path]], tmp_path: Path
) -> None:
    out, (utt_id, source) = tmp_path / "out", sources[3]
    format_audio(sources, out)
    before = made_at(out)
    source.write_bytes(sources[0][1].read_bytes())
    format_audio(sources, out)
    after = made_at(out)
    assert [name for name in after if after[name] != before[name]] == [f"{utt_id}.flac"]
    assert (out / f"audio/{utt_id}.flac").read_bytes() == (
        out / f"audio/{sources[0][0]}.flac"
    ).read_bytes()
    source.unlink()  # what was made of it is still good
    assert format_audio(sources, out).n_utterances == len(sources)
