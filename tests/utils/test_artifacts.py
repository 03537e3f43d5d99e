"""Values as files: what each type takes, refuses and gives back."""

import json
import pickle

import numpy as np
import pytest
import soundfile

from espnet3.errors import ConfigError, RecordRejected
from espnet3.utils.artifact_formats import parse_format
from espnet3.utils.artifacts import write_artifact

WAV = {"type": "wav", "sample_rate": 16000}


class FakeTensor:
    """What torch.Tensor shows of itself, without torch."""

    def __init__(self, values, device="cpu"):
        self._values = np.asarray(values)
        self.shape = self._values.shape
        self.device = device

    def detach(self):
        return self

    def numpy(self):
        return self._values


def test_array_goes_to_npy_and_the_id_keeps_its_dots(tmp_path):
    path = write_artifact(np.arange(6.0).reshape(2, 3), tmp_path / "sp0.9-utt1")
    assert path == tmp_path / "sp0.9-utt1.npy"
    assert np.load(path).tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert [p.name for p in tmp_path.iterdir()] == ["sp0.9-utt1.npy"]


def test_cpu_tensor_is_an_array_and_one_on_a_gpu_is_refused(tmp_path):
    path = write_artifact(FakeTensor([1, 2]), tmp_path / "u")
    assert np.load(path).tolist() == [1, 2]
    with pytest.raises(RecordRejected, match=r"is on cuda:1; return tensor.cpu\(\)"):
        write_artifact(FakeTensor([1, 2], "cuda:1"), tmp_path / "v")
    assert not (tmp_path / "v.npy").exists()


def test_dict_goes_to_json_with_arrays_inside(tmp_path):
    value = {"score": np.float32(0.5), "n": np.arange(3), "name": "é", "tensor": FakeTensor([7])}
    path = write_artifact(value, tmp_path / "u")
    assert path.suffix == ".json"
    assert json.loads(path.read_text("utf-8")) == {
        "score": 0.5, "n": [0, 1, 2], "name": "é", "tensor": [7],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "config", "message"),
    [
        ({"a": object()}, None, "builtins|object"),
        ({"a": "\ud800"}, None, "surrogates"),
        (np.array([object()]), None, "written as npy"),
        (object(), None, r"output_artifacts.*\{type: pickle\}"),
        (b"bytes", None, "type bytes is not stored"),
        ([1, 2], {"type": "json"}, "a dict is needed"),
        (3, {"type": "text"}, "a str is needed"),
        (lambda: None, {"type": "pickle"}, "written as pickle"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, value, config, message):
    with pytest.raises(RecordRejected, match=message):
        write_artifact(value, tmp_path / "u", config, where="utterance 'u', field 'x'")
    assert list(tmp_path.iterdir()) == []


def test_pickle_only_when_asked_for(tmp_path):
    path = write_artifact({1, 2}, tmp_path / "u", {"type": "pickle"})
    assert path.suffix == ".pkl"
    assert pickle.loads(path.read_bytes()) == {1, 2}


def test_text_keeps_its_line_breaks(tmp_path):
    path = write_artifact("a\r\nb", tmp_path / "u", {"type": "text"})
    assert (path.name, path.read_bytes()) == ("u.txt", b"a\r\nb")


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_audio_reads_back(tmp_path, kind):
    samples = np.array([[0, 100], [-32768, 32767], [5, 6]], dtype=np.int16)
    path = write_artifact(samples, tmp_path / "u", {"type": kind, "sample_rate": 8000})
    assert path.suffix == f".{kind}"
    back, rate = soundfile.read(path, dtype="int16")
    assert rate == 8000
    assert back.tolist() == samples.tolist()


def test_float_audio_is_clipped_at_full_scale_with_a_warning(tmp_path, caplog):
    path = write_artifact(np.array([0.0, 1.5, -1.5]), tmp_path / "u", WAV, where="utterance 'u'")
    back, _ = soundfile.read(path, dtype="int16")
    assert back.tolist() == [0, 32767, -32768]
    assert "utterance 'u': the audio reaches 1.5" in caplog.text


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([0.0, np.inf]), "infinity"),
        (np.array([0.0, 20000.0]), "divide it by its full scale"),
        (np.zeros((1, 16000)), "transpose"),
        (np.zeros((2, 2, 2)), r"\(samples,\)"),
        (np.zeros(4, dtype=np.int64), "int64"),
        (np.zeros((300, 200), dtype=np.int16), "written as flac"),
    ],
)
def test_audio_that_would_be_something_else_is_refused(tmp_path, samples, message):
    with pytest.raises(RecordRejected, match=message):
        write_artifact(samples, tmp_path / "u", {"type": "flac", "sample_rate": 16000})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("wav", "must be a block"),
        ({"type": "wave"}, "did you mean wav"),
        ({"type": "wav"}, "needs sample_rate"),
        ({"type": "wav", "sample_rate": "16k"}, "needs sample_rate"),
        ({"type": "wav", "sample_rate": 8000, "subtype": "FLOAT"}, "PCM_16, PCM_24, PCM_32"),
        ({"type": "npy", "sample_rate": 8000}, "unknown option 'sample_rate'"),
        ({"writer": "a.b"}, "must be a block whose _target_"),
        ({"writer": {"_target_": "a.b"}, "type": "npy"}, "keep one"),
    ],
)
def test_wrong_config_names_its_key(block, message):
    with pytest.raises(ConfigError, match=rf"output_artifacts\.audio.*{message}"):
        parse_format(block, "output_artifacts.audio")


@pytest.fixture
def writers(tmp_path, monkeypatch):
    (tmp_path / "artifact_writers.py").write_text(
        "from pathlib import Path\n"
        "def good(value, output_path, ending='.ctm', upper=False):\n"
        "    path = Path(f'{output_path}{ending}')\n"
        "    path.write_text(value.upper() if upper else value)\n"
        "    return path\n"
        "def nothing(value, output_path): return None\n"
        "def missing(value, output_path): return output_path\n"
        "def elsewhere(value, output_path): return __file__\n"
        "def failing(value, output_path): raise KeyError('x')\n"
        "def full_disk(value, output_path): raise OSError(28, 'No space left on device')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def _write(folder, name, **options):
    block = {"writer": {"_target_": f"artifact_writers.{name}", **options}}
    return write_artifact("text", folder / "u.1", block, where="utterance 'u.1'")


def test_custom_writer_gets_its_options_and_names_the_file(writers):
    path = _write(writers, "good", upper=True)
    assert (path, path.read_text()) == (writers / "u.1.ctm", "TEXT")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "NoneType; it must return the path"),
        ("missing", "is no file"),
        ("elsewhere", "outside of"),
        ("failing", "KeyError"),
    ],
)
def test_custom_writer_that_breaks_its_contract_is_named(writers, name, message):
    with pytest.raises(RecordRejected, match=rf"'u\.1'.*artifact_writers\.{name}.*{message}"):
        _write(writers, name)


def test_errors_of_the_disk_pass_through(writers):
    with pytest.raises(OSError, match="No space left"):
        _write(writers, "full_disk")


def test_custom_writer_that_is_not_there(writers):
    with pytest.raises(ConfigError, match=r"artifact_writers\.gone"):
        _write(writers, "gone")
