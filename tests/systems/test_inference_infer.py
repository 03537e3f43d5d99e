"""`infer`: all test sets of a config, and what is checked before the first begins."""

import importlib
import json
import sys

import pytest
from omegaconf import OmegaConf

from espnet3.errors import ConfigError, DataError, IdentityChanged, RunFailed
from espnet3.systems.base.inference import infer
from espnet3.utils.scp import read_scp

CODE = """
from pathlib import Path

from espnet3.systems.base.inference_provider import InferenceProvider
from espnet3.systems.base.inference_runner import InferenceRunner

class Model:
    def __init__(self, prefix="TEXT", bad=()):
        self.prefix, self.bad = prefix, list(bad)
        with Path(__file__).with_name("built").open("a") as log:
            log.write("built\\n")
    def __call__(self, x):
        if x in self.bad:
            raise ValueError(f"cannot decode {x}")
        return {"hyp": f"{self.prefix} {x}", "meta": {"x": x}}

def output_fn(data, model_output, idx):
    return {"out": f"{data['utt_id']}-{idx}"}

class Provider(InferenceProvider):
    @staticmethod
    def build_model(config):
        return Model(prefix=f"BEAM {config.beam}")

class Runner(InferenceRunner):
    seen = []
    def __call__(self, indices, durations=None):
        self.seen.append((len(indices), durations, self.batch_size))
        return super().__call__(indices, durations)
"""
DATASET = """
class Dataset:
    def __init__(self, n=3, ids=None, start=0, seconds=None, content="1"):
        self.ids = ids or [f"u{i}" for i in range(n)]
        self.ids = [] if n == 0 else self.ids
        self.start, self.seconds, self.content = start, seconds, content
    def __len__(self):
        return len(self.ids)
    def __getitem__(self, i):
        return {"utt_id": self.ids[i], "x": self.start + i}
    def utt_id(self, i):
        return self.ids[i]
    def durations(self):
        return self.seconds
    def fingerprint(self):
        return self.content
"""


@pytest.fixture
def make_config(tmp_path, monkeypatch):
    (tmp_path / "infer_code.py").write_text(CODE)
    (tmp_path / "recipe" / "dataset").mkdir(parents=True)
    (tmp_path / "recipe" / "dataset" / "__init__.py").write_text(DATASET)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "infer_code", raising=False)

    def make(tests=None, **keys):
        tests = tests or {"clean": {"n": 3}, "other": {"n": 2, "start": 10}}
        entries = [{"name": name, "data_src_args": args} for name, args in tests.items()]
        return OmegaConf.create(
            {
                "recipe_dir": str(tmp_path / "recipe"),
                "inference_dir": str(tmp_path / "out"),
                "dataset": {"test": entries},
                "model": {"_target_": "infer_code.Model"},
                "input_key": "x",
            }
            | keys
        )

    return make


def built(tmp_path):
    log = tmp_path / "built"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_all_test_sets_with_defaults(make_config, tmp_path):
    config = make_config()
    before = OmegaConf.to_container(config)
    assert infer(config) is None
    assert OmegaConf.to_container(config) == before
    assert (tmp_path / "out/clean/hyp.scp").read_text() == "u0 TEXT 0\nu1 TEXT 1\nu2 TEXT 2\n"
    assert (tmp_path / "out/other/text").read_text() == "u0 TEXT 10\nu1 TEXT 11\n"
    meta = read_scp(tmp_path / "out/other/meta.scp")
    assert meta["u1"] == (tmp_path / "out/other/meta/u1.json").as_posix()
    assert json.loads((tmp_path / "out/other/meta/u1.json").read_text()) == {"x": 11}


def test_output_fn_and_keys_params_and_runner_of_ones_own(make_config, tmp_path):
    config = make_config(
        {"clean": {"n": 2, "seconds": [1.0, 2.0]}},
        output_fn="infer_code.output_fn",
        output_keys="out",
        provider={
            "_target_": "espnet3.systems.base.inference_provider.InferenceProvider",
            "params": {"input_key": "overruled"},
        },
        runner={"_target_": "infer_code.Runner"},
    )
    infer(config)
    assert (tmp_path / "out/clean/out.scp").read_text() == "u0 u0-0\nu1 u1-1\n"
    assert (tmp_path / "out/clean/hyp.trn").read_text() == "u0-0 (u0)\nu1-1 (u1)\n"
    from infer_code import Runner

    assert Runner.seen == [(2, [1.0, 2.0], None)]


def test_reloaded_module_is_the_one_that_runs(make_config, tmp_path):
    config = make_config({"clean": {"n": 1}}, output_fn="infer_code.output_fn", output_keys="out")
    infer(config)
    code = CODE.replace("{data['utt_id']}-{idx}", "reloaded {idx}")
    (tmp_path / "infer_code.py").write_text(code)
    importlib.reload(sys.modules["infer_code"])
    config.inference_dir = str(tmp_path / "after")
    infer(config)
    assert (tmp_path / "after/clean/out.scp").read_text() == "u0 reloaded 0\n"


def test_two_workers_give_the_same_bytes(make_config, tmp_path):
    one = make_config(inference_dir=str(tmp_path / "one"))
    two = make_config(
        inference_dir=str(tmp_path / "two"), parallel={"env": "local", "n_workers": 2}
    )
    infer(one)
    infer(two)
    for name in ("hyp.scp", "text", "hyp.trn", "meta/u1.json", "meta.scp"):
        ours = (tmp_path / "two/clean" / name).read_bytes()
        theirs = (tmp_path / "one/clean" / name).read_bytes()
        assert ours.replace(b"/two/", b"/one/") == theirs


def test_everything_wrong_is_in_one_error(make_config, tmp_path):
    config = make_config(
        contract={"inputs": {}},
        input_key=[],
        output_keys=["ok", "a/b"],
        output_artifacts={"wav": {"type": "wav"}},
        output_fn="infer_code.gone",
        batch_size=0,
        runner={"_target_": "no_such_module.Runner"},
        inference_dir=None,
        model=None,
    )
    config.dataset.test[1].name = "clean"
    config.dataset.test.append({"data_src_args": {}})
    config.dataset.test.append({"name": "../up"})
    with pytest.raises(ConfigError) as caught:
        infer(config)
    text = str(caught.value)
    for line in (
        "contract: is not built yet; use output_fn or format_output",
        "inference_dir: is not set",
        "dataset.test[1].name: two test sets have the name 'clean'",
        "dataset.test[2].name: every test set needs a name",
        "dataset.test[3].name: '../up' cannot be a directory",
        "input_key: must name",
        "output_keys: 'a/b' cannot name an output field",
        "output_artifacts.wav: wav needs sample_rate",
        "output_fn: infer_code.gone: cannot be imported",
        "batch_size: must be a positive integer",
        "runner._target_: no_such_module.Runner: cannot be imported",
        "model: is not set",
    ):
        assert line in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ({"clean": {}, "other": {"n": 0}}, "test set 'other' is empty"),
        ({"clean": {}, "other": {"ids": ["a", "b", "a"]}}, "'a' comes twice, at positions 0 and 2"),
        ({"clean": {}, "other": {"seconds": [1.0]}}, "1 numbers for 3 items"),
        ({"clean": {}, "other": {"ids": ["a", "b/c"]}}, "test set 'other', item 1: utterance id"),
    ],
)
def test_test_sets_are_checked_before_the_first_begins(make_config, tmp_path, tests, message):
    with pytest.raises(DataError, match=message):
        infer(make_config(tests))
    assert built(tmp_path) == 0
    assert not (tmp_path / "out").exists()


def test_no_test_set_at_all(make_config):
    config = make_config()
    config.dataset.test = []
    with pytest.raises(ConfigError, match="dataset.test: must list at least one"):
        infer(config)


def test_finished_run_builds_no_model(make_config, tmp_path):
    infer(make_config())
    n = built(tmp_path)
    infer(make_config())
    assert built(tmp_path) == n


def test_limit_leaves_the_rest_for_later(make_config, tmp_path):
    infer(make_config(run={"limit": 1}))
    assert not (tmp_path / "out/clean/hyp.scp").exists()
    infer(make_config())
    assert len(read_scp(tmp_path / "out/clean/hyp.scp")) == 3


def bad_model(*bad):
    return {"_target_": "infer_code.Model", "bad": list(bad)}


def test_other_test_sets_are_done_after_a_failure(make_config, tmp_path):
    tests = {name: {"start": start} for name, start in (("a", 0), ("b", 10), ("c", 20))}
    with pytest.raises(RunFailed) as caught:
        infer(make_config(tests, model=bad_model(1, 20)))
    assert str(caught.value).startswith("2 of 3 test sets have failed items")
    assert "cannot decode 1" in str(caught.value)
    assert "cannot decode 20" in str(caught.value)
    found = [(f["test_set"], f["utterance"]) for f in caught.value.failures]
    assert found == [("a", "u1"), ("c", "u0")]
    assert [(tmp_path / "out" / name / "text").exists() for name in "abc"] == [False, True, False]


def test_on_error_raise_stops_at_the_first_test_set(make_config, tmp_path):
    config = make_config(model=bad_model(1), run={"on_error": "raise"})
    with pytest.raises(RunFailed, match="cannot decode 1"):
        infer(config)
    assert not (tmp_path / "out/other").exists()


# what makes it another run


def test_another_test_set_changes_nothing_for_those_that_are_done(make_config):
    infer(make_config({"clean": {}}))
    infer(make_config({"new": {}, "clean": {}}, parallel={"env": "local"}, anything=3))


def test_test_sets_of_another_config_are_refused_after_the_others(make_config, tmp_path):
    tests = {"done": {"n": 2, "start": 10}, "broken": {"n": 3}}
    with pytest.raises(RunFailed, match="1 of 2 test sets have failed items; the others are comp"):
        infer(make_config(tests, model=bad_model(1)))
    tests |= {"bad": {"n": 2, "start": 20}, "good": {"n": 2, "start": 30}}
    with pytest.raises(RunFailed) as caught:
        infer(make_config(tests, model=bad_model(1, 20) | {"prefix": "NEW"}))
    text = str(caught.value)
    assert text.startswith(
        "1 of 4 test sets have failed items; 2 of 4 test sets were refused and left as they are; "
        "the others are complete.\n"
    )
    assert text.count("model.prefix: (not set) -> NEW\n") == 2
    assert [(f["test_set"], f["utterance"]) for f in caught.value.failures] == [("bad", "u0")]
    assert (tmp_path / "out/done/text").read_text() == "u0 TEXT 10\nu1 TEXT 11\n"
    assert not (tmp_path / "out/broken/text").exists()
    assert (tmp_path / "out/good/text").read_text() == "u0 NEW 30\nu1 NEW 31\n"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"model": {"_target_": "infer_code.Model", "prefix": "OTHER"}}, "model.prefix"),
        ({"prefix": "OTHER"}, "model.prefix"),
        ({"tests": {"clean": {"content": "2"}}}, "dataset_fingerprint"),
        ({"tests": {"clean": {"n": 3, "start": 1}}}, "start"),
        ({"output_keys": ["hyp"]}, "output_keys"),
        ({"output_fn": "infer_code.output_fn"}, "output_fn"),
        ({"output_artifacts": {"meta": {"type": "pickle"}}}, "output_artifacts"),
        ({"runner": {"_target_": "infer_code.Runner"}}, "runner"),
        ({"provider": {"params": {"model_kwargs": {"beam": 2}}}}, "params.model_kwargs.beam"),
    ],
)
def test_what_decides_the_results_refuses_to_resume(make_config, change, name):
    def config(tests=None, **keys):
        model = {"_target_": "infer_code.Model", "prefix": "${prefix}"}
        return make_config(tests or {"clean": {"n": 3}}, **{"prefix": "A", "model": model} | keys)

    infer(config())
    with pytest.raises(IdentityChanged, match=name.replace(".", r"\.")):
        infer(config(**change))


def test_file_that_the_model_is_made_of_counts(make_config, tmp_path):
    weights = tmp_path / "weights"
    weights.write_text("1")
    model = {"_target_": "infer_code.Model", "prefix": "${weights_dir}/weights"}
    infer(make_config(model=model, weights_dir=str(tmp_path)))
    weights.write_text("22")
    with pytest.raises(IdentityChanged, match=r"model_files\.prefix"):
        infer(make_config(model=model, weights_dir=str(tmp_path)))


def test_provider_that_builds_its_own_way_counts_every_key(make_config, tmp_path):
    def config(beam, **keys):
        provider = {"_target_": "infer_code.Provider", "params": {"fn": "x"}}
        return make_config({"clean": {}}, provider=provider, beam=beam, **keys)

    infer(config(1))
    infer(config(1, parallel={"n_workers": 1}))
    with pytest.raises(IdentityChanged, match=r"config\.beam: 1 -> 2"):
        infer(config(2))


def test_provider_that_builds_its_own_way_counts_the_files_of_every_key(make_config, tmp_path):
    lm = tmp_path / "lm.bin"
    lm.write_text("1")
    provider = {"_target_": "infer_code.Provider", "params": {"fn": "x"}}
    config = make_config({"clean": {}}, provider=provider, beam=1, lm=str(lm))
    infer(config)
    lm.write_text("22")
    with pytest.raises(IdentityChanged, match=r"config_files\.lm: lm\.bin, 1 bytes"):
        infer(config)


def test_secret_behind_an_interpolation_is_written_nowhere(make_config, tmp_path):
    model = {"_target_": "infer_code.Model", "prefix": "${hf_token}"}
    config = make_config({"clean": {}}, model=model, hf_token="hush-hush", output_keys=["meta"])
    infer(config)
    kept = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert not [p for p in kept if b"hush" in p.read_bytes()]


def test_duplicates_of_a_dataset_without_ids_are_found_at_the_merge(make_config, tmp_path):
    code = (tmp_path / "recipe/dataset/__init__.py").read_text()
    code = code.replace("def utt_id", "def no_utt_id")
    (tmp_path / "recipe/dataset/__init__.py").write_text(code)
    with pytest.raises(DataError, match="'a' comes twice, at positions 0 and 2"):
        infer(make_config({"clean": {"ids": ["a", "b", "a"]}}))
    assert not (tmp_path / "out/clean/hyp.scp").exists()
