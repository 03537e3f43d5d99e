"""`InferenceRunner` with batches by length: its files are those of batches by count, in bytes."""

import random
from pathlib import Path

import numpy as np
import pytest

from espnet3.errors import DataError, RunFailed
from espnet3.parallel.engine import order
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import parallel_session
from espnet3.systems.base.inference_runner import InferenceRunner
from espnet3.utils import ark_merge

N = 50
LENGTHS = [round(random.Random(i).lognormvariate(1, 0.8), 3) for i in range(N)]
ARTIFACTS = {"packed": {"type": "ark"}, "array": {"type": "npy"}}


class Items(list):
    """A dataset."""


class Provider(EnvironmentProvider):
    """Gives an env that was made before."""

    def __init__(self, model, **params):
        super().__init__()
        dataset = Items({"utt_id": f"u{i}", "x": i} for i in range(N))
        self.env = {"dataset": dataset, "model": model, "input_key": "x", **params}

    def build_env_local(self):
        return dict(self.env)


class Bad(Exception):
    pass


class Model:
    """All kinds of outputs, a function of the item."""

    def __init__(self, bad=()):
        self.bad = set(bad)
        self.batches = []

    def __call__(self, x):
        self.batches.append(x)
        if self.bad & set(x):
            raise Bad
        return [self.one(i) for i in x]

    @staticmethod
    def one(i):
        return {
            "hyp": f"hypothesis {i}",
            "ref": f"reference {i}",
            "score": i / 7,
            "array": np.arange(i % 5, dtype=np.float32),
            "packed": np.full(1 + i % 7, i, dtype=np.float32),
        }


@pytest.fixture(autouse=True)
def _small_windows_and_parts(monkeypatch):
    monkeypatch.setattr(
        "espnet3.parallel.engine.work.longest_first",
        lambda durations, window, limit: order.longest_first(durations, 20, limit),
    )
    monkeypatch.setattr(ark_merge, "PART_BYTES", 400)


def decode(out, model=None, durations=LENGTHS, run=None, **params):
    provider = Provider(model or Model(), output_artifacts=ARTIFACTS, **params)
    runner = InferenceRunner(provider, output_dir=out, batch_size=4, hyp_key="hyp")
    with parallel_session(None, run=run):
        return runner(range(N), durations)


def published(out):
    """Every file that was published, with its content; paths of the run directory taken out."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        one = name.split("/")[0]
        if path.is_file() and one.partition(".")[0] in (
            *("hyp", "ref", "score", "array", "packed", "text"),
        ):
            found[name] = path.read_bytes().replace(str(out).encode(), b"OUT")
    return found


@pytest.fixture
def by_count(tmp_path):
    out = tmp_path / "by_count"
    decode(out, durations=None)
    found = published(out)
    assert {"hyp.scp", "ref.trn", "hyp.trn", "text", "packed/packed.2.ark"} < found.keys()
    return found


def test_files_are_the_same_byte_by_byte(tmp_path, by_count):
    model = Model()
    assert decode(tmp_path / "out", model) is True
    assert model.batches[0] == sorted(range(20), key=lambda i: -LENGTHS[i])[:4]
    assert published(tmp_path / "out") == by_count


@pytest.mark.parametrize("batch_seconds", [5, 60])
def test_files_are_the_same_where_batches_end_by_seconds(tmp_path, by_count, batch_seconds):
    run = {"batch_seconds": batch_seconds, "lease_seconds": 1e-6}
    decode(tmp_path / "out", run=run)
    assert published(tmp_path / "out") == by_count
    decode(tmp_path / "out")  # merged again
    assert published(tmp_path / "out") == by_count


def test_files_are_the_same_after_failures_and_other_durations(tmp_path, by_count):
    out, model = tmp_path / "out", Model(bad={3, 33})
    with pytest.raises(RunFailed) as caught:
        decode(out, model)
    assert [(f["position"], f["utterance"]) for f in caught.value.failures] == [
        (3, "#3"),
        (33, "#33"),
    ]
    decode(out, durations=[1.0] * N, run={"batch_seconds": 2.5})
    assert published(out) == by_count


def test_a_hole_is_a_hole_in_all_files(tmp_path, by_count):
    bad = {0, 19, 20, 49}
    decode(tmp_path / "out", Model(bad=bad), run={"on_error": "skip"})
    decode(tmp_path / "count", Model(bad=bad), durations=None, run={"on_error": "skip"})
    assert published(tmp_path / "out") == published(tmp_path / "count") != by_count


def test_a_new_setup_of_batches_refuses_nothing(tmp_path, by_count):
    out = tmp_path / "out"
    decode(out, run={"limit": 9, "batch_seconds": 9})
    decode(out)
    assert published(out) == by_count


def test_errors_of_the_merge_name_positions(tmp_path):
    class Twice(Model):
        @staticmethod
        def one(i):
            return {**Model.one(i), "utt_id": "same" if i in (7, 31) else f"u{i}"}

    with pytest.raises(DataError, match="'same' comes twice, at positions 7 and 31"):
        decode(tmp_path / "twice", Twice())

    class Missing(Model):
        @staticmethod
        def one(i):
            return {k: v for k, v in Model.one(i).items() if k != "score" or i != 17}

    with pytest.raises(DataError, match=r"'score' is missing for utterance 'u17' \(position 17\)"):
        decode(tmp_path / "missing", Missing())


def test_files_lie_where_they_did(tmp_path, by_count):
    decode(tmp_path / "out")
    lines = (tmp_path / "out" / "array.scp").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"u{i}" for i in range(N)]
    assert all(Path(line.split()[1]).exists() for line in lines)
