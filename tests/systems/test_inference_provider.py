"""`InferenceProvider`: dataset, model and device from a config."""

import importlib.machinery
import sys
import types

import pytest
from omegaconf import OmegaConf

from espnet3.components.instantiate import resolve_device
from espnet3.errors import ConfigError
from espnet3.systems.base.inference_provider import InferenceProvider

MODELS = """
class Plain:
    def __init__(self, beam=1):
        self.beam = beam

class OnDevice:
    def __init__(self, device="unset"):
        self.device = device

class Anything:
    def __init__(self, **kwargs):
        self.kwargs = kwargs

class Organizer:
    def __init__(self, test, recipe_dir=None):
        self.test = {entry["name"]: (entry["name"], recipe_dir) for entry in test}
"""
DATASET = """
class Dataset:
    def __init__(self, n):
        self.n = n
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        return {"utt_id": f"u{i}"}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "provider_models.py").write_text(MODELS)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "__init__.py").write_text(DATASET)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    sys.modules.pop("provider_models", None)
    return tmp_path


def config(folder, model="Plain", **keys):
    block = model if isinstance(model, dict) else {"_target_": f"provider_models.{model}"}
    test = [{"name": name, "data_src_args": {"n": n}} for name, n in (("a", 2), ("b", 3))]
    return OmegaConf.create(
        {"recipe_dir": str(folder), "dataset": {"test": test}, "test_set": "b", "model": block}
        | keys
    )


def test_env_holds_dataset_model_and_params(folder):
    given = config(folder, beam=4)
    before = OmegaConf.to_container(given)
    provider = InferenceProvider(given, params={"input_key": "speech", "fn": len})
    for env in (provider.build_env_local(), provider.build_worker_setup_fn()()):
        assert len(env["dataset"]) == 3
        assert env["dataset"][1] == {"utt_id": "u1"}
        assert type(env["model"]).__name__ == "Plain"
        assert (env["input_key"], env["fn"]) == ("speech", len)
    assert OmegaConf.to_container(given) == before
    assert provider.config.input_key == "speech"


def test_overrides_of_a_recipe_are_used_on_workers_too(folder):
    class Mine(InferenceProvider):
        @staticmethod
        def build_dataset(config):
            return [config.own]

        @staticmethod
        def build_model(config):
            return config.input_key

    provider = Mine({"own": 3}, params={"input_key": "x"})
    expected = {"dataset": [3], "model": "x", "input_key": "x"}
    assert provider.build_env_local() == expected
    assert provider.build_worker_setup_fn()() == expected


def test_organizer_of_ones_own(folder):
    block = {"_target_": "provider_models.Organizer", "test": [{"name": "b"}]}
    built = InferenceProvider.build_dataset(config(folder, dataset=block))
    assert built == ("b", str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_set": "c"}, "no test set 'c'; there is a, b"),
        ({"dataset": None}, "dataset: is not set"),
        ({"model": None}, "model: is not set"),
    ],
)
def test_what_is_missing_is_named(folder, change, message):
    provider = InferenceProvider(OmegaConf.merge(config(folder), change))
    with pytest.raises(ConfigError, match=message):
        provider.build_env_local()


def fake_torch(monkeypatch, n_gpus):
    torch = types.ModuleType("torch")
    torch.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    torch.cuda = types.SimpleNamespace(is_available=lambda: n_gpus > 0, device_count=lambda: n_gpus)
    monkeypatch.setitem(sys.modules, "torch", torch)


def no_torch(monkeypatch):
    # What `importlib.util.find_spec` takes for "not there", whether it is installed or not.
    monkeypatch.setitem(sys.modules, "torch", None)


def test_device_is_passed_only_where_it_is_taken(folder, monkeypatch):
    fake_torch(monkeypatch, 1)
    build = InferenceProvider.build_model
    assert build(config(folder)).beam == 1
    assert build(config(folder, "OnDevice")).device == "cuda:0"
    assert build(config(folder, "Anything")).kwargs == {"device": "cuda:0"}
    own = {"_target_": "provider_models.OnDevice", "device": "cpu"}
    assert build(config(folder, own)).device == "cpu"
    assert build(config(folder, own | {"device": None})).device == "cuda:0"
    assert build(config(folder, "OnDevice", device="cuda:7")).device == "cuda:7"


def test_torch_is_not_imported_for_a_model_that_takes_no_device(folder, monkeypatch):
    no_torch(monkeypatch)
    assert InferenceProvider.build_model(config(folder)).beam == 1
    assert InferenceProvider.build_model(config(folder, "OnDevice")).device == "cpu"


@pytest.mark.parametrize(
    ("config", "environ", "device"),
    [
        ({}, {}, "cuda:0"),
        ({"device": "mps"}, {"LOCAL_RANK": "9"}, "mps"),
        ({"device_index": 2, "local_rank": 1}, {"LOCAL_RANK": "0"}, "cuda:2"),
        ({"local_rank": "1"}, {"LOCAL_RANK": "0"}, "cuda:1"),
        ({}, {"LOCAL_RANK": "3"}, "cuda:3"),
        ({}, {"CUDA_VISIBLE_DEVICES": "5,6,7,2", "LOCAL_RANK": "1"}, "cuda:1"),
        ({}, {"CUDA_VISIBLE_DEVICES": "", "LOCAL_RANK": "1"}, "cpu"),
        ({}, {"CUDA_VISIBLE_DEVICES": "-1"}, "cpu"),
    ],
)
def test_device_counts_among_the_visible_gpus(monkeypatch, config, environ, device):
    fake_torch(monkeypatch, 4)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert resolve_device(config) == device


def test_rank_of_a_launcher_that_has_narrowed_the_gpus_counts_once(monkeypatch):
    fake_torch(monkeypatch, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert resolve_device({}) == "cuda:0"
    with pytest.raises(ConfigError, match="device_index: there is no GPU 2; this process sees 1"):
        resolve_device({"device_index": 2})


@pytest.mark.parametrize(
    ("config", "rank", "message"),
    [
        ({}, "2", "LOCAL_RANK: there is no GPU 2; this process sees 2"),
        ({"device_index": -1}, "0", "device_index: there is no GPU -1"),
        ({"local_rank": "one"}, "0", "local_rank: 'one' is no number"),
    ],
)
def test_gpu_that_is_not_there(monkeypatch, config, rank, message):
    fake_torch(monkeypatch, 2)
    monkeypatch.setenv("LOCAL_RANK", rank)
    with pytest.raises(ConfigError, match=message):
        resolve_device(config)


def test_without_gpu_or_torch_it_is_the_cpu(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    fake_torch(monkeypatch, 0)
    assert resolve_device({}) == "cpu"
    no_torch(monkeypatch)
    assert resolve_device({"device_index": 1}) == "cpu"
