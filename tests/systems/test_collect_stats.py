"""`collect_stats`: shapes and statistics of the training data, the same for everybody."""

import importlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from espnet3.components.data.collect_stats import collect_stats as collect_split
from espnet3.components.data.collect_stats import prepare
from espnet3.errors import ConfigError, DataError, IdentityChanged, RunFailed
from espnet3.systems.base.system import BaseSystem
from espnet3.systems.base.training import collect_stats
from espnet3.utils.scp import read_scp

sys.path.insert(0, str(Path(__file__).parents[1] / "parallel"))
sys.path.insert(0, str(Path(__file__).parent))

import stats_code
from drivers import await_that, running_of

DATASET = """
import numpy as np

class Dataset:
    def __init__(self, n=20, seed=0, ids=None, what=(), dtype="float32", known=True):
        self.ids = [f"u{i:02}" for i in range(n)] if ids is None else list(ids)
        self.seed, self.what, self.dtype = seed, list(what), dtype
        self.known = known
    def __len__(self):
        return len(self.ids)
    def __getitem__(self, i):
        random = np.random.default_rng([self.seed, i])
        speech = random.normal(scale=10.0 ** random.integers(-3, 4), size=40 + 7 * (i * 7 % 11))
        return {
            "utt_id": self.ids[i], "speech": speech.astype(self.dtype), "sample_rate": 16000,
            "text": random.integers(1, 30, 3 + i % 4), "words": "not an array",
            "what": self.what[i] if self.what else "",
        }
    def __getattr__(self, name):
        if name == "utt_id" and self.known:
            return lambda i: self.ids[i]
        raise AttributeError(name)
"""
TRAINING = """
recipe_dir: .
stats_dir: stats
dataset:
  train:
    - {data_src_args: {n: 12}}
    - {data_src_args: {ids: [v1, v0, v2, v3, v4, v5, v6, v7], seed: 1}}
  valid:
    - {data_src_args: {n: 3, seed: 2}}
collect_stats:
  collect_feats: stats_code.spectrum
parallel: {env: local, n_workers: 1}
run: {}
"""


@pytest.fixture
def place(recipe, monkeypatch):
    recipe.write("dataset/__init__.py", DATASET)
    recipe.write("training.yaml", TRAINING)
    return recipe


@pytest.fixture
def config(place):
    return OmegaConf.create(TRAINING)


def of(config, *overrides, **blocks):
    """A config with other values."""
    changed = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
    for key, value in blocks.items():
        changed[key] = value
    return changed


def dataset_of(split, config):
    from espnet3.components.data.data_organizer import DataOrganizer

    dataset = getattr(DataOrganizer(**config.dataset, recipe_dir="."), split)
    return [dataset[i] for i in range(len(dataset))]


def published(directory="stats"):
    """All that was published, by name."""
    inner = {"ledger.jsonl", "manifest.json", "events.jsonl", "config", "lock", "failures.jsonl"}
    files = {}
    for split in ("train", "valid"):
        for path in sorted(Path(directory, split).rglob("*")):
            name = path.relative_to(directory).as_posix()
            parts = path.relative_to(Path(directory, split)).parts
            wanted = parts[0].endswith(("_shape", "_stats.npz", "_keys", "collect_feats"))
            if path.is_file() and wanted and path.name not in inner:
                files[name] = path.read_bytes()
    return files


def by_plain_numpy(arrays):
    """Sums as a loop makes them, in float64."""
    frames = [np.asarray(a, np.float64) for a in arrays]
    total = {"count": 0, "sum": 0.0, "sum_square": 0.0}
    for one in frames:
        total["count"] += len(one)
        total["sum"] = total["sum"] + one.sum(axis=0)
        total["sum_square"] = total["sum_square"] + np.square(one).sum(axis=0)
    return total


# what is published


def test_shapes_and_statistics_are_those_of_plain_numpy(config):
    collect_stats(config)
    for split in ("train", "valid"):
        items = dataset_of(split, config)
        features = [stats_code.spectrum(item)["feats"] for item in items]
        expected = by_plain_numpy(features)
        stats = dict(np.load(f"stats/{split}/feats_stats.npz"))
        for key, value in expected.items():
            np.testing.assert_array_equal(stats[key], value, strict=key != "count", err_msg=key)
        all_frames = np.concatenate(features).astype(np.float64)
        np.testing.assert_allclose(stats["mean"], all_frames.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(stats["std"], all_frames.std(axis=0), rtol=1e-9)
        lines = {
            "speech_shape": [f"{i['utt_id']} {len(i['speech'])}" for i in items],
            "text_shape": [f"{i['utt_id']} {len(i['text'])}" for i in items],
            "feats_shape": [
                f"{i['utt_id']} {len(f)},9" for i, f in zip(items, features, strict=True)
            ],
            "batch_keys": ["speech", "text"],
            "stats_keys": ["feats"],
        }
        for name, text in lines.items():
            assert Path(f"stats/{split}/{name}").read_text() == "\n".join(text) + "\n", name
        assert not Path(f"stats/{split}/words_shape").exists()
        assert not Path(f"stats/{split}/sample_rate_shape").exists()


def test_stage_of_a_recipe(place, run, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    argv = ("--stages", "collect_stats", "--training_config", "training.yaml")
    outcome = run(BaseSystem, *argv, "--dry_run")
    assert outcome.status == 0, outcome.err
    assert "items: 20" in outcome.out
    assert "items: 3" in outcome.out
    assert "split valid" in outcome.out
    assert not Path("stats").exists()
    assert run(BaseSystem, *argv).status == 0
    assert Path("stats/collect_stats.log").exists()
    assert len(read_scp("stats/valid/feats_shape")) == 3
    outcome = run(BaseSystem, *argv, "--dry_run")
    assert "left: nothing" in outcome.out


def test_files_are_what_espnet2_reads(config):
    """By what ESPnet2's GlobalMVN and its reader of shape files do with them."""
    collect_stats(config)
    stats = np.load("stats/train/feats_stats.npz")
    count, values, squares = stats["count"], stats["sum"], stats["sum_square"]
    assert count.shape == ()
    assert count.dtype.kind == "i"
    assert values.shape == squares.shape == (9,)
    assert values.dtype == squares.dtype == np.float64
    mean = values / count
    std = np.sqrt(np.maximum(squares / count - mean * mean, 1.0e-20))
    np.testing.assert_array_equal(stats["mean"], mean)
    np.testing.assert_array_equal(stats["std"], std)
    shapes = {}
    for line in Path("stats/train/feats_shape").read_text().splitlines():
        utt_id, value = line.rstrip().split(maxsplit=1)
        shapes[utt_id] = [int(number) for number in value.split(",")]
    assert shapes["v0"][1] == 9
    assert list(shapes)[11:14] == ["u11", "v1", "v0"]  # in the order of the data set
    keys = [line.strip() for line in Path("stats/train/batch_keys").read_text().splitlines()]
    assert all(Path(f"stats/train/{key}_shape").exists() for key in keys)


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "espnet2"))),
    reason="needs torch and ESPnet2, which are not installed",
)
def test_espnet2_itself_reads_them(config):
    from espnet2.fileio.read_text import load_num_sequence_text
    from espnet2.layers.global_mvn import GlobalMVN

    collect_stats(config)
    stats = np.load("stats/train/feats_stats.npz")
    layer = GlobalMVN("stats/train/feats_stats.npz")
    np.testing.assert_array_equal(layer.mean.numpy(), stats["mean"])
    assert load_num_sequence_text("stats/train/feats_shape", "csv_int")["u00"][1] == 9


def test_written_features_are_read_by_kaldiio(config):
    kaldiio = pytest.importorskip("kaldiio")
    collect_stats(of(config, "collect_stats.write_collected_feats=true"))
    read = kaldiio.load_scp("stats/train/collect_feats/feats.scp")
    items = dataset_of("train", config)
    assert list(read) == [item["utt_id"] for item in items]
    for item in items:
        expected = stats_code.spectrum(item)["feats"]
        np.testing.assert_array_equal(read[item["utt_id"]], expected, strict=True)


def test_class_with_arguments_and_numbers_for_frames(config):
    target = {"_target_": "stats_code.Scaled", "factor": 0.5}
    collect_stats(of(config, collect_stats={"collect_feats": target}))
    items = dataset_of("valid", config)
    energies = [stats_code.Scaled(0.5)(item) for item in items]
    for name, dims in (("energy", (1,)), ("pitch", ())):
        stats = np.load(f"stats/valid/{name}_stats.npz")
        assert stats["sum"].shape == dims
        expected = by_plain_numpy([e[name] for e in energies])
        np.testing.assert_array_equal(stats["sum_square"], expected["sum_square"])
    assert Path("stats/valid/stats_keys").read_text() == "energy\npitch\n"
    assert read_scp("stats/valid/pitch_shape")["u01"] == str(len(items[1]["speech"]))


def test_function_with_arguments(config):
    target = {"_target_": "stats_code.spectrum", "size": 8}
    collect_stats(of(config, collect_stats={"collect_feats": target}))
    assert np.load("stats/train/feats_stats.npz")["sum"].shape == (5,)


def test_one_split_by_a_function_call(config):
    assert collect_split({**config, "parallel": None}, "valid", "here") == Path("here/valid")
    collect_stats(config)
    for name in ("feats_stats.npz", "speech_shape"):
        assert Path("here/valid", name).read_bytes() == Path("stats/valid", name).read_bytes()


def test_without_validation_data(config, caplog):
    del config.dataset["valid"]
    collect_stats(config)
    assert "dataset.valid: is not set" in caplog.text
    assert not Path("stats/valid").exists()


# the same for everybody


def test_bits_are_the_same_for_any_number_of_workers(config):
    pytest.importorskip("kaldiio")
    config.collect_stats.write_collected_feats = True
    config.run.lease_seconds = 1e-6  # a shard of its own for every utterance
    collect_stats(of(config))
    alone = published()
    assert {"train/feats_stats.npz", "valid/collect_feats/feats/feats.1.ark"} <= set(alone)
    for n_workers in (2, 3):
        os.rename("stats", f"with_{n_workers - 1}")
        other = of(config, f"parallel.n_workers={n_workers}", f"run.lease_seconds={n_workers}")
        collect_stats(other)
        assert published() == alone


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3)])
def test_bits_are_the_same_after_the_driver_was_killed(place, config, before, after):
    collect_stats(of(config, stats_dir="undisturbed"))
    place.write("hold/u07", "")
    place.write("hold/v4", "")
    place.write("training.yaml", TRAINING.replace("run: {}", "run: {lease_seconds: 1e-6}"))
    code, root = Path(stats_code.__file__), Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(code.parent), str(root)])}
    driver = subprocess.Popen(
        [sys.executable, code, str(before)], env=environ, start_new_session=True
    )
    try:
        await_that(lambda: len(list(Path("hold").glob("*.reached"))) == before, driver)
        assert list(Path("stats/train").glob("split.*/done"))
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    for hold in Path("hold").iterdir():
        hold.unlink()
    await_that(lambda: not running_of(driver))
    assert not Path("stats/train/feats_stats.npz").exists()
    collect_stats(of(config, f"parallel.n_workers={after}"))
    assert published() == published("undisturbed")


def test_nothing_is_done_twice(config, monkeypatch):
    collect_stats(config)
    before = published()
    monkeypatch.setattr(stats_code, "spectrum", None)  # would fail
    sys.modules["stats_code"].spectrum = lambda item: 1 / 0
    collect_stats(config)
    assert published() == before


# models


def model_config(config, *overrides, **blocks):
    blocks = {"model": {"_target_": "stats_code.Model", "scale": 2.0}, **blocks}
    return of(config, *overrides, **{"collect_stats": {}, **blocks})


@pytest.mark.parametrize("batch_size", [None, 4])
def test_model_gives_the_features_without_padding(config, batch_size):
    stats_code.Model.batches.clear()
    collect_stats(model_config(config, collect_stats={"batch_size": batch_size}))
    assert set(stats_code.Model.batches) == ({1} if batch_size is None else {4, 3})
    items = dataset_of("train", config)
    frames = [
        i["speech"][: len(i["speech"]) // 4 * 4].reshape(-1, 4) * np.float32(2) for i in items
    ]
    stats = np.load("stats/train/feats_stats.npz")
    for key, value in by_plain_numpy(frames).items():
        np.testing.assert_array_equal(stats[key], value)
    peaks = [np.array([[max(i["speech"]), -max(i["speech"])]]) for i in items]
    np.testing.assert_array_equal(
        np.load("stats/train/peak_stats.npz")["sum"], by_plain_numpy(peaks)["sum"]
    )
    assert read_scp("stats/train/peak_shape")["u00"] == "1,2"
    assert read_scp("stats/train/feats_shape")["u00"] == f"{len(items[0]['speech']) // 4},4"
    assert Path("stats/train/batch_keys").read_text() == "speech\ntext\n"
    assert "torch" not in sys.modules


def test_model_is_built_without_the_statistics_that_it_will_need(config):
    model = {"_target_": "stats_code.Model", "normalize": "mvn", "normalize_conf": {"file": "x"}}
    collect_stats(model_config(config, model=model))
    collect_stats(model_config(config, model={"_target_": "stats_code.Model"}))  # the same run


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (9999, "lengths from 9999 to 9999: frames would be padding, or not there"),
        (-1, "lengths from -1 to -1"),
        (4.5, "'feats_lengths' as float64 of shape .* not a vector of integers"),
        ([[4]], r"'feats_lengths' as int64 of shape \(1, 1\)"),
    ],
)
def test_lengths_that_cannot_be_are_no_features(config, lengths, message):
    model = {"_target_": "stats_code.Lengthy", "lengths": lengths}
    with pytest.raises(RunFailed, match=message):
        collect_stats(model_config(config, model=model))


def test_batches_of_a_model_count_for_the_identity(config):
    collect_stats(model_config(config))
    with pytest.raises(IdentityChanged, match="batch_size"):
        collect_stats(model_config(config, collect_stats={"batch_size": 4}))


@pytest.mark.parametrize(
    ("model", "message"),
    [("NoFeatures", "no method collect_feats"), ("Wordless", "'names' as shape")],
)
def test_model_that_gives_no_features(config, model, message):
    broken = model_config(
        config, model={"_target_": f"stats_code.{model}"}, collect_stats={"batch_size": 2}
    )
    with pytest.raises(Exception, match=message):
        collect_stats(broken)


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")
def test_torch_module_gets_tensors(config, tmp_path, monkeypatch):
    (tmp_path / "torch_model.py").write_text(
        "import torch\n"
        "class Model(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.scale = torch.nn.Parameter(torch.ones(1))\n"
        "    def collect_feats(self, speech, speech_lengths, **others):\n"
        "        assert not self.training and not torch.is_grad_enabled()\n"
        "        return {'feats': (speech * self.scale)[:, :, None], "
        "'feats_lengths': speech_lengths}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    collect_stats(model_config(config, model={"_target_": "torch_model.Model"}))
    expected = by_plain_numpy([i["speech"][:, None] for i in dataset_of("train", config)])
    np.testing.assert_array_equal(np.load("stats/train/feats_stats.npz")["sum"], expected["sum"])


# what is wrong with the data


def awkward(config, *what, **arguments):
    entries = [{"data_src_args": {"n": len(what), "what": list(what), **arguments}}]
    return of(config, dataset={"train": entries}, collect_stats={"collect_feats": "stats_code.bad"})


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("raise", "no features"),
        ("nan", "NaN or infinity"),
        ("inf", "NaN or infinity"),
        ("huge", "too large to be squared"),
        ("empty", r"feats is empty: its shape is \(0, 4\)"),
        ("text", "not real numbers"),
        ("no dict", "it must return a dict"),
        ("list", "stats_code.bad gave 'feats': list"),
        ("name", "'a/b' cannot name"),
    ],
)
def test_bad_item_fails_by_its_utterance_id(config, what, message):
    broken = awkward(config, "", "", what, "")
    with pytest.raises(RunFailed, match=message) as caught:
        collect_stats(broken)
    assert [failure["utterance"] for failure in caught.value.failures] == ["u02"]
    assert not Path("stats/train/feats_stats.npz").exists()
    assert "prepare(config, 'train', config.stats_dir).runner.debug(2)" in str(caught.value)
    with pytest.raises(Exception, match=message):
        prepare(broken, "train", broken.stats_dir).runner.debug(2)
    collect_stats(of(broken, "run.on_error=skip"))
    assert list(read_scp("stats/train/feats_shape")) == ["u00", "u01", "u03"]
    assert np.load("stats/train/feats_stats.npz")["count"] == 9


def test_nothing_is_left_of_features_that_are_not_collected_any_more(config):
    scaled = {"_target_": "stats_code.Scaled", "factor": 2}
    collect_stats(
        of(config, collect_stats={"collect_feats": scaled, "write_collected_feats": True})
    )
    own = Path("stats/train/notes_shape")
    own.touch()
    Path("stats/train/collect_feats/.energy.ark.77.tmp").touch()  # of a process that was killed
    collect_stats(of(config, "run.resume=false"))
    left = {path.name for path in Path("stats/train").rglob("*") if "split." not in str(path)}
    assert "feats_stats.npz" in left
    assert not [name for name in left if name.startswith(("energy", "pitch"))]
    assert own.exists()


def test_other_split_is_done_when_one_fails(config):
    config.dataset.train = [{"data_src_args": {"n": 2, "what": ["raise", ""]}}]
    config.dataset.valid = [{"data_src_args": {"n": 2, "what": ["", ""]}}]
    config.collect_stats.collect_feats = "stats_code.bad"
    with pytest.raises(RunFailed, match="1 of 2 splits have failed items") as caught:
        collect_stats(config)
    assert [failure["split"] for failure in caught.value.failures] == ["train"]
    assert Path("stats/valid/feats_stats.npz").exists()


@pytest.mark.parametrize("batch_size", [None, 4])
def test_an_utterance_of_another_kind_than_those_before_it_fails(config, batch_size):
    config.collect_stats.batch_size = batch_size
    what = ["other", "other", "", "other"]
    for stats_dir, given, message in (
        ("stats", ["", "", "wide", ""], "'feats' has frames of 5, and of 4 in utterance 'u00'"),
        ("others", what, "utterance 'u00' has 'other', and utterance 'u02' has not"),
    ):
        config.stats_dir = stats_dir
        with pytest.raises(RunFailed, match=message) as caught:
            collect_stats(awkward(config, *given))
        assert [failure["utterance"] for failure in caught.value.failures] == ["u02"]


def test_frames_of_two_shapes_and_missing_features_are_refused(config):
    config.run.lease_seconds = 1e-6  # so that each is in a shard of its own
    message = "frames of 4 for utterance 'u00' and of 5 for 'u02'"
    with pytest.raises(DataError, match=message):
        collect_stats(awkward(config, "", "", "wide"))
    config.stats_dir = "others"
    with pytest.raises(DataError, match="'other' is missing for utterance 'u01'; 2 of 3"):
        collect_stats(awkward(config, "other", "", "other"))
    for place in ("stats", "others"):
        assert not list(Path(place, "train").glob("*_stats.npz"))


def test_ids_that_cannot_be(config):
    with pytest.raises(DataError, match="dataset.train: utterance id 'a' comes twice"):
        collect_stats(awkward(config, "", "", ids=["a", "a"]))
    assert not Path("stats").exists()
    with pytest.raises(DataError, match="'a' comes twice"):
        collect_stats(awkward(config, "", "", ids=["a", "a"], known=False))
    with pytest.raises(DataError, match="dataset.train is empty"):
        collect_stats(awkward(config))


# what is wrong with the config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"collect_stats": {"colect_feats": "x"}}, "did you mean 'collect_feats'?"),
        ({"collect_stats": {"collect_feats": "stats_code.spectrum", "batch_size": 2}}, "leave it"),
        ({"collect_stats": {"collect_feats": {"size": 3}}}, "a block with _target_"),
        ({"collect_stats": {"collect_feats": "no_such.module"}}, "no_such"),
        ({"collect_stats": {"collect_feats": "stats_code.nothing"}}, "nothing"),
        (
            {"collect_stats": {"batch_size": 0}, "model": {"_target_": "stats_code.Model"}},
            "positive",
        ),
        ({"collect_stats": {}}, "there is no model either"),
        ({"collect_stats": {}, "model": {"encoder": "x"}}, "whose _target_ makes the model"),
        ({"collect_stats": {}, "model": {"encoder": "x"}, "task": "asr"}, "task: is not supported"),
        ({"dataset": {"valid": []}}, "dataset.train: must list"),
    ],
)
def test_wrong_config_is_refused_before_anything_starts(config, place, run, change, message):
    wrong = of(config, **change)
    place.write("wrong.yaml", OmegaConf.to_yaml(wrong))
    argv = ("--stages", "collect_stats", "--training_config", "wrong.yaml")
    outcome = run(BaseSystem, *argv)
    assert outcome.status == 2, outcome.err
    assert message in outcome.err
    assert not Path("stats").exists()


def test_changes_that_decide_are_noticed_and_others_are_not(config):
    collect_stats(config)
    collect_stats(of(config, optimizer={"lr": 1.0}, model={"_target_": "stats_code.Model"}))
    with pytest.raises(IdentityChanged, match="collect_feats"):
        collect_stats(of(config, "collect_stats.collect_feats=stats_code.bad"))
    config.dataset.valid[0].data_src_args.n = 4
    with pytest.raises(IdentityChanged, match="1 of 2 splits were refused"):
        collect_stats(config)


def test_edited_feature_code_is_noticed(config, place, monkeypatch):
    monkeypatch.syspath_prepend(place.root)
    code = "def feats(item):\n    return {'feats': item['speech'][:, None]}\n"
    place.write("edited_feats.py", code)
    config = of(config, collect_stats={"collect_feats": "edited_feats.feats"})
    collect_stats(config)
    place.write("edited_feats.py", code.replace("None", "None] * 2 + 0 * item['speech'][:, None"))
    with pytest.raises(IdentityChanged, match="edited_feats"):
        collect_stats(config)


def test_config_without_a_place(config):
    with pytest.raises(ConfigError, match="stats_dir: is not set"):
        collect_stats(of(config, stats_dir=None))
