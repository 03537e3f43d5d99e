"""`output_artifacts` of type ark: what goes in, what is published, and that nobody's work shows."""

import subprocess
import sys
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from espnet3.errors import ConfigError, DataError, RecordRejected
from espnet3.runs import clean
from espnet3.systems.base.inference import infer
from espnet3.systems.base.inference_merge import publish
from espnet3.systems.base.inference_runner import InferenceRunner
from espnet3.utils import ark_merge
from espnet3.utils.artifact_formats import parse_format
from espnet3.utils.artifacts import write_artifact
from espnet3.utils.scp import read_scp

ROOT = Path(__file__).parents[2]


def write_shard(folder, name, records, **artifacts):
    """Write a shard through the hooks, as the engine does."""
    shard = folder / name
    shard.mkdir(parents=True)
    env = {"output_dir": str(folder / "out"), "shard_subdir": "", "output_artifacts": artifacts}
    writers = InferenceRunner.open_writers(shard, **env)
    try:
        for record in records:
            InferenceRunner.write_record(writers, record, {}, **env)
    finally:
        InferenceRunner.close_writers(writers, {}, **env)
    return shard


def round_trip(folder, values, **options):
    records = [{"utt_id": f"ü{i}", "feats": value} for i, value in enumerate(values)]
    shard = write_shard(folder, "split.1", records, feats={"type": "ark", **options})
    publish([shard], folder / "out")
    loaded = kaldiio.load_scp(str(folder / "out" / "feats.scp"))
    return [loaded[f"ü{i}"] for i in range(len(values))]


def test_arrays_read_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    values = [
        rng.normal(size=(5, 3)).astype(np.float32),
        rng.normal(size=(4, 2)),
        rng.normal(size=7).astype(np.float32),
        rng.normal(size=(3, 4)).astype(np.float32).T,
        rng.normal(size=(2, 2)).astype(">f4"),
        np.arange(3, dtype=np.int32),
        np.zeros((0, 4), dtype=np.float32),
    ]
    for read, value in zip(round_trip(tmp_path, values), values, strict=True):
        np.testing.assert_array_equal(read, value)
        assert read.dtype == value.dtype.newbyteorder("=")


@pytest.mark.parametrize("audio", ["flac", "wav"])
def test_audio_is_packed_as_a_file_of_its_own_would_hold_it(tmp_path, audio):
    values = [np.sin(np.arange(n) / 5) * 0.9 for n in (100, 400)]
    values.append(np.array([[1, 2], [-32768, 32767], [5, 6]], dtype=np.int16))
    read = round_trip(tmp_path, values, sample_rate=8000, audio=audio)
    for (rate, samples), value in zip(read, values, strict=True):
        path = write_artifact(value, tmp_path / "one", {"type": "wav", "sample_rate": 8000})
        assert rate == 8000
        if samples.dtype != np.int16:
            samples = samples * 32768
        assert samples.tolist() == soundfile.read(path, dtype="int16")[0].tolist()


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        ("text", {}, "type str does not go into an ark"),
        (3.5, {}, "type float does not go into an ark"),
        (np.zeros((2, 2, 2)), {}, r"not \(2, 2, 2\); reshape it"),
        (np.zeros(2, dtype=np.int64), {}, "not int64; convert it"),
        (np.array([0.0, np.nan]), {"sample_rate": 8000}, "NaN or infinity"),
    ],
)
def test_what_does_not_go_in_is_refused_and_leaves_nothing(tmp_path, value, options, message):
    artifacts = {"feats": {"type": "ark", **options}}
    with pytest.raises(RecordRejected, match=rf"utterance 'u', field 'feats': .*{message}"):
        write_shard(tmp_path, "split.1", [{"utt_id": "u", "feats": value}], **artifacts)
    assert [path.name for path in (tmp_path / "split.1").iterdir()] == ["fields.json"]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"type": "ark", "subtype": "PCM_16"}, "unknown option 'subtype'; ark has sample_rate, au"),
        ({"type": "ark", "sample_rate": 0}, "ark needs sample_rate"),
        ({"type": "ark", "sample_rate": 8000, "audio": "mp3"}, "audio is flac or wav"),
        ({"type": "ark", "audio": "wav"}, "audio: wav needs sample_rate too"),
    ],
)
def test_wrong_config_names_its_key(block, message):
    with pytest.raises(ConfigError, match=rf"output_artifacts\.feats.*{message}"):
        parse_format(block, "output_artifacts.feats")


def test_parts_end_by_size_wherever_shards_end(tmp_path, monkeypatch):
    monkeypatch.setattr(ark_merge, "PART_BYTES", 300)
    records = [
        {"utt_id": f"u{i}", "feats": np.full(n, i, dtype=np.float32)}
        for i, n in enumerate([10, 20, 200, 5, 60, 1, 1, 1])
    ]
    ark, published = {"feats": {"type": "ark"}}, []
    for name, cuts in (("a", [0, 8]), ("b", [0, 1, 1, 3, 7, 8])):
        folder = tmp_path / name
        shards = [
            write_shard(folder, f"split.{i}", records[begin:end], **ark)
            for i, (begin, end) in enumerate(zip(cuts, cuts[1:], strict=False))
        ]
        publish(shards, folder / "out")
        out = folder / "out"
        files = {p.name: p.read_bytes() for p in (out / "feats").iterdir()}
        scp = (out / "feats.scp").read_text().replace(str(folder), "")
        published.append((files, scp))
    assert published[0] == published[1]
    assert sorted(published[0][0]) == [f"feats.{n}.ark" for n in (1, 2, 3, 4)]
    for utt, array in kaldiio.load_scp(str(tmp_path / "b/out/feats.scp")).items():
        np.testing.assert_array_equal(array, records[int(utt[1:])]["feats"])


def test_merging_again_writes_no_part_again_and_leaves_no_old_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(ark_merge, "PART_BYTES", 100)
    records = [{"utt_id": f"u{i}", "feats": np.ones(20, np.float32)} for i in range(3)]
    shard = write_shard(tmp_path, "split.1", records, feats={"type": "ark"})
    folder = tmp_path / "out" / "feats"
    publish([shard], tmp_path / "out")
    before = {p.name: p.stat().st_ino for p in folder.iterdir()}
    assert len(before) == 3
    (folder / ".feats.2.ark.77.tmp").write_text("of a process that was killed")
    publish([shard], tmp_path / "out")
    assert {p.name: p.stat().st_ino for p in folder.iterdir()} == before
    other = [{"utt_id": "u9", "feats": np.zeros(20, np.float32)}]  # as long as the first part
    publish([write_shard(tmp_path, "split.2", other, feats={"type": "ark"})], tmp_path / "out")
    assert [p.name for p in folder.iterdir()] == ["feats.1.ark"]
    assert not kaldiio.load_scp(str(tmp_path / "out/feats.scp"))["u9"].any()


def test_an_utterance_that_comes_late_moves_all_behind_it(tmp_path, monkeypatch):
    records = [{"utt_id": f"u{i:02}", "feats": np.full(20, i, np.float32)} for i in range(12)]
    size, how = len(b"u00 \0BFV \4....") + 80, {"feats": {"type": "ark"}}
    monkeypatch.setattr(ark_merge, "PART_BYTES", 4 * size)
    before = write_shard(tmp_path, "split.1", records[:2], **how)
    behind = write_shard(tmp_path, "split.3", records[3:], **how)
    publish([before, behind], tmp_path / "out")
    late = write_shard(tmp_path, "split.2", records[2:3], **how)
    publish([before, late, behind], tmp_path / "out")  # parts 2 and 3 are as long as before
    for utt, array in kaldiio.load_scp(str(tmp_path / "out/feats.scp")).items():
        np.testing.assert_array_equal(array, records[int(utt[1:])]["feats"])


def test_shards_that_pack_and_shards_that_do_not_are_refused(tmp_path):
    record = {"utt_id": "u1", "feats": np.ones(2)}
    shards = [
        write_shard(tmp_path, "split.1", [record], feats={"type": "ark"}),
        write_shard(tmp_path, "split.2", [{**record, "utt_id": "u2"}]),
    ]
    with pytest.raises(DataError, match="'feats' is packed into an ark in some shards only"):
        publish(shards, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ark_that_was_cut_off_is_noticed(tmp_path):
    records = [{"utt_id": f"u{i}", "feats": np.ones(9)} for i in range(3)]
    shard = write_shard(tmp_path, "split.1", records, feats={"type": "ark"})
    ark = shard / "feats" / "entries.ark"
    ark.write_bytes(ark.read_bytes()[:100])
    with pytest.raises(DataError, match=r"entries\.ark is shorter than the scp"):
        publish([shard], tmp_path / "out")
    assert not (tmp_path / "out" / "feats.scp").exists()


# whole runs, over a Kaldi data directory that the config names

CODE = """
import os
import signal
from pathlib import Path

import numpy as np

class Model:
    def __call__(self, speech):
        fatal = Path(__file__).with_name("fatal")
        if fatal.exists() and len(speech) == 107:
            fatal.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        feats = speech[: len(speech) // 4 * 4].reshape(-1, 4)
        return {"hyp": f"{len(speech)}", "feats": feats, "half": speech / 2}
"""


@pytest.fixture
def decode(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    rng, scp = np.random.default_rng(1), []
    for i in range(12):
        soundfile.write(data / f"{i}.wav", rng.uniform(-0.5, 0.5, 100 + i), 8000)
        scp.append(f"utt{i:02d} {data / f'{i}.wav'}\n")
    (data / "wav.scp").write_text("".join(scp))
    (tmp_path / "ark_model.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ark_model", raising=False)

    def config(name, n_workers=1):
        entry = {
            "name": "test",
            "data_src": "espnet3.components.data.kaldi_dataset",
            "data_src_args": {"path": str(data)},
        }
        return OmegaConf.create(
            {
                "inference_dir": str(tmp_path / name),
                "dataset": {"test": [entry]},
                "model": {"_target_": "ark_model.Model"},
                "input_key": "speech",
                "output_artifacts": {
                    "feats": {"type": "ark"},
                    "half": {"type": "ark", "sample_rate": 8000},
                },
                "parallel": {"env": "local", "n_workers": n_workers},
            }
        )

    return config


def published(folder):
    """Bytes of what was published, by name below the run directory."""
    run_dir = folder / "test"
    names = ["hyp.scp", "feats.scp", "half.scp", "feats/feats.1.ark", "half/half.1.ark"]
    assert sorted(p.name for p in (run_dir / "feats").iterdir()) == ["feats.1.ark"]
    return {name: (run_dir / name).read_bytes().replace(bytes(folder), b"") for name in names}


def n_shards(folder):
    return len(list((folder / "test").glob("split.*")))


def test_bytes_are_the_same_for_every_number_of_workers(decode, tmp_path):
    for n_workers in (1, 2, 3):
        infer(decode(f"w{n_workers}", n_workers))
    one = published(tmp_path / "w1")
    assert published(tmp_path / "w2") == one
    assert published(tmp_path / "w3") == one
    assert n_shards(tmp_path / "w3") > 1
    feats = kaldiio.load_scp(str(tmp_path / "w3/test/feats.scp"))
    assert [len(feats[utt]) for utt in read_scp(tmp_path / "w3/test/hyp.scp")] == [
        (100 + i) // 4 for i in range(12)
    ]
    assert clean(tmp_path / "w1/test") == 1  # what is packed is on disk once then
    infer(decode("w1"))
    assert (published(tmp_path / "w1"), n_shards(tmp_path / "w1")) == (one, 0)


def test_bytes_are_the_same_after_the_driver_was_killed(decode, tmp_path):
    config = decode("killed")
    (tmp_path / "fatal").touch()
    (tmp_path / "conf.yaml").write_text(OmegaConf.to_yaml(config))
    program = (
        "from omegaconf import OmegaConf; from espnet3.systems.base.inference import infer; "
        "infer(OmegaConf.load('conf.yaml'))"
    )
    environ = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environ, check=False)
    assert done.returncode == -9
    assert not (tmp_path / "fatal").exists()
    assert not (tmp_path / "killed/test/feats.scp").exists()
    infer(config)
    infer(decode("whole"))
    assert published(tmp_path / "killed") == published(tmp_path / "whole")
