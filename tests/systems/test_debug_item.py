"""`--debug_item` of run.py, and what an error of the infer stage says about it."""

import io
import shlex
import sys

import pytest
from omegaconf import OmegaConf

from espnet3.errors import RunFailed
from espnet3.systems.base.inference import infer
from espnet3.systems.base.inference_debug import debug_item
from espnet3.systems.base.system import BaseSystem

CODE = """
from pathlib import Path

import numpy as np

from espnet3.systems.base.inference_runner import InferenceRunner

class Model:
    def __init__(self, beam=1, hf_token=None):
        self.beam = beam
    def __call__(self, x):
        if isinstance(x, list):
            return [self(one) for one in x]
        bad = Path("bad")
        if bad.exists() and str(x) in bad.read_text().split():
            raise ValueError(f"cannot decode {x}")
        if x == 12:
            raise SystemExit(0)
        if x == 13:
            return {"hyp": "two\\nlines"}
        long = " ".join(["word"] * 100)
        return {"hyp": f"TEXT {x}", "beam": self.beam, "long": long, "array": np.zeros((2, 3))}

class NoDebug:
    pass
"""
DATASET = """
class Dataset:
    def __init__(self, n, start=0, prefix="u"):
        self.n, self.start, self.prefix = n, start, prefix
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        return {"utt_id": self.utt_id(i), "x": self.start + i}
    def utt_id(self, i):
        return f"{self.prefix}{i}"
"""
INFERENCE = """
recipe_dir: .
dataset:
  test:
    - {name: clean, data_src_args: {n: 3}}
    - {name: other, data_src_args: {n: 5, start: 10}}
model: {_target_: debug_code.Model, beam: 1}
input_key: x
output_keys: [hyp]
"""
A = ("--inference_config", "conf/decode.yaml", "exp_tag=tag")


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.fixture
def conf(recipe, monkeypatch):
    recipe.write("debug_code.py", CODE)
    recipe.write("dataset/__init__.py", DATASET)
    recipe.write("conf/train.yaml", "exp_tag: trained\nlr: 1\n")
    recipe.write("conf/decode.yaml", INFERENCE)
    recipe.write("conf/metrics.yaml", "metrics: []\n")
    monkeypatch.syspath_prepend(recipe.root)
    monkeypatch.delitem(sys.modules, "debug_code", raising=False)
    return recipe


def debug(run, item, *argv):
    return run(BaseSystem, "--stages", "infer", *A, "--debug_item", item, *argv)


# --debug_item


def test_outputs_are_printed_and_nothing_is_written(conf, run):
    outcome = debug(run, "u4", "model.beam=7")
    assert outcome.status == 0, outcome.err
    assert outcome.out.splitlines() == [
        "test set other, u4 (position 4):",
        "  hyp: TEXT 14",
        "  beam: 7",
        f"  long: {('word ' * 40)[:200]}... (499 characters)",
        "  array: ndarray of shape (2, 3), float64",
        "  utt_id: u4",
    ]
    assert not (conf.root / "exp").exists()


def test_every_test_set_that_has_the_item_does_it(conf, run):
    for item in ("u1", "#1"):
        lines = debug(run, item).out.splitlines()
        assert [line for line in lines if "hyp" in line or "test set" in line] == [
            "test set clean, u1 (position 1):",
            "  hyp: TEXT 1",
            "test set other, u1 (position 1):",
            "  hyp: TEXT 11",
        ]


def test_batch_of_one(conf, run):
    assert "  hyp: TEXT 14\n" in debug(run, "u4", "+batch_size=4").out


def test_exception_passes_through_launch(conf, run):
    conf.write("bad", "14")
    with pytest.raises(ValueError, match="cannot decode 14") as caught:
        debug(run, "u4")
    assert caught.value.__notes__ == ["This was in forward, for item 4 (u4), done alone here."]
    assert not (conf.root / "exp").exists()


def test_error_of_ours_has_its_traceback_too(conf, run):
    with pytest.raises(ValueError, match="utterance 'u3', field 'hyp'") as caught:
        debug(run, "u3")
    assert "This was in write_record, " in caught.value.__notes__[0]


def test_item_that_ends_the_process_is_no_success(conf, run):
    outcome = debug(run, "#2")
    assert outcome.status == 1
    assert "hyp: TEXT 2" in outcome.out  # of the first test set
    assert "Traceback" in outcome.err
    assert "SystemExit: 0" in outcome.err


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("#9", "no test set has an item '#9': clean has '#0' to '#2', other has '#0' to '#4'"),
        ("U4", "no utt"),
        ("v4", "'v4' (there is clean, other); the nearest are 'u4' of other"),
        ("nothing like it", "'nothing like it' (there is clean, other)\n"),
        (" ", "--debug_item: is empty"),
    ],
)
def test_unknown_item_names_the_nearest(conf, run, item, message):
    outcome = debug(run, item)
    assert outcome.status == 2
    assert message.replace("no utt", "the nearest are 'u4' of other") in outcome.err
    assert "Traceback" not in outcome.err


def test_data_without_ids_have_positions(conf, run):
    conf.write("dataset/__init__.py", DATASET.replace("def utt_id", "def id_of").replace(
        "self.utt_id(i)", "self.id_of(i)"
    ))  # fmt: skip
    assert "test set other, #4 (position 4):\n" in debug(run, "#4").out
    outcome = debug(run, "u4")
    assert outcome.status == 2
    assert (
        "no test set has an utterance 'u4'; the data of clean, other has no utt_id(), so its items "
        "have positions alone: clean has '#0' to '#2', other has '#0' to '#4'"
    ) in outcome.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--stages", "infer", "measure"), "for the infer stage alone; give --stages infer"),
        ((), "for the infer stage alone; give --stages infer"),
        (("--stages", "infer", "--limit", "3"), "leave --limit out"),
        (("--stages", "infer", "runner._target_=debug_code.NoDebug"), "NoDebug has no debug()"),
    ],
)
def test_wrong_usage_is_refused_before_anything_starts(conf, run, argv, message):
    outcome = run(BaseSystem, *argv, *A, "--debug_item", "u4")
    assert outcome.status == 2
    assert message in outcome.err
    assert outcome.out == ""


def test_dry_run_does_nothing(conf, run):
    outcome = debug(run, "u4", "--dry_run")
    assert outcome.status == 0
    assert "item: u4, alone and in this process; nothing is written" in outcome.out
    assert "log:" not in outcome.out


# what an error says


def failed_command(run, *argv):
    """Let items fail; return the words of the command that the error ends with."""
    outcome = run(BaseSystem, "--stages", "infer", *argv)
    assert outcome.status == 1
    line = outcome.err.splitlines()[-1]
    assert outcome.err.count("--debug_item") == 1
    assert "runner.debug" not in outcome.err
    return shlex.split(line, comments=True)


def test_error_ends_with_the_command_that_does_the_item(conf, run):
    conf.write("bad", "1 10")
    conf.write("conf/more.yaml", "model: {beam: 3}\n")
    configs = ("--inference_config", "conf/decode.yaml", "conf/more.yaml")
    rest = ("--metrics_config", "conf/metrics.yaml", "--training_config", "conf/train.yaml")
    overrides = ("exp_tag=a b", "+metrics.x=1", "training.lr=2")
    words = failed_command(run, *configs, *rest, *overrides)
    assert words[1:] == [
        *(sys.argv[0], "--stages", "infer", *configs),
        *("exp_tag=a b", "--debug_item", "u1"),
    ]
    with pytest.raises(ValueError, match="cannot decode 1"):
        run(BaseSystem, *words[2:])
    log = (conf.root / "exp/a b/decode/infer.log").read_text()
    assert "--debug_item u1\n" in log


def test_command_keeps_a_config_that_something_comes_from(conf, run):
    conf.write("bad", "1")
    configs = ("--training_config", "conf/train.yaml", "--inference_config", "conf/decode.yaml")
    words = failed_command(run, *configs, "training.exp_dir=place")
    assert words[4:] == [*configs, "training.exp_dir=place", "--debug_item", "u1"]


def test_command_hides_secrets_and_says_so(conf, run):
    conf.write("bad", "1")
    secret = "+inference.model.hf_token=hf_abcdefgh"
    words = failed_command(run, *A, secret)
    assert words[-3:] == ["+inference.model.hf_token=***", "--debug_item", "u1"]
    outcome = run(BaseSystem, "--stages", "infer", *A, secret)
    assert outcome.err.endswith("  # put in what *** stands for\n")
    assert "abcdefgh" not in outcome.err


@pytest.mark.parametrize("prefix", ["-u", "a=", "#"])
def test_command_with_an_odd_id_can_be_run(conf, run, prefix):
    conf.write("bad", "1")
    words = failed_command(run, *A, f"+dataset.test.0.data_src_args.prefix='{prefix}'")
    with pytest.raises(ValueError, match="cannot decode 1"):
        run(BaseSystem, *words[2:])


def test_error_of_infer_from_python_ends_with_the_call(conf):
    config = OmegaConf.merge(OmegaConf.create(INFERENCE), {"inference_dir": "out"})
    conf.write("bad", "1 10")
    with pytest.raises(RunFailed) as caught:
        infer(config)
    text = str(caught.value)
    call = "from espnet3.systems.base.inference_debug import debug_item; debug_item(config, 'u1')"
    assert text.endswith(f"\n  {call}")
    assert text.count("To do the first one alone") == 1
    with pytest.raises(ValueError, match="cannot decode 1"):
        debug_item(config, "u1")
    conf.write("bad", "")
    assert {name: out["hyp"] for name, out in debug_item(config, "u1").items()} == {
        "clean": "TEXT 1",
        "other": "TEXT 11",
    }
