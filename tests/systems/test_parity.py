"""`--parity` of run.py."""

import sys

import pytest

from espnet3.systems.base.system import BaseSystem

CODE = """
class Model:
    def __call__(self, x):
        longest = max(x)
        return [{"hyp": f"TEXT {one}" + "!" * (one == 3 != longest)} for one in x]
"""
DATASET = """
class Dataset:
    def __init__(self, n):
        self.n = n
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        return {"utt_id": self.utt_id(i), "x": i}
    def utt_id(self, i):
        return f"u{i}"
    def durations(self):
        return [1.0 + i for i in range(self.n)]
"""
INFERENCE = """
recipe_dir: .
exp_tag: tag
inference_dir: exp/${exp_tag}
dataset:
  test:
    - {name: clean, data_src_args: {n: 3}}
    - {name: other, data_src_args: {n: 5}}
model: {_target_: parity_code.Model}
input_key: x
batch_size: 4
"""
A = ("--stages", "infer", "--inference_config", "conf/decode.yaml")


@pytest.fixture
def conf(recipe, monkeypatch):
    recipe.write("parity_code.py", CODE)
    recipe.write("dataset/__init__.py", DATASET)
    recipe.write("conf/decode.yaml", INFERENCE)
    monkeypatch.syspath_prepend(recipe.root)
    monkeypatch.delitem(sys.modules, "parity_code", raising=False)
    return recipe


def test_every_test_set_is_compared_and_nothing_is_written(conf, run):
    outcome = run(BaseSystem, *A, "--parity", "100")
    assert outcome.status == 0, outcome.err
    assert outcome.out.splitlines() == [
        "test set clean",
        "  3 items, alone and in 1 batch: 0 differ (0.0 %)",
        "test set other",
        "  5 items, alone and in 2 batches: 1 differ (20.0 %)",
        "    u3, hyp",
        "      alone:          'TEXT 3'",
        "      in    4 at once: 'TEXT 3!'",
    ]
    assert not (conf.root / "exp").exists()
    assert run(BaseSystem, *A, "--parity").out == outcome.out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--parity", "0"), "--parity: must be 1 or more, not 0"),
        (("--parity", "--limit", "3"), "--parity: does nothing else; leave --limit out"),
        (("--parity", "--dry_run"), "leave --dry_run out"),
        (("--parity", "batch_size=null"), "has no batch_size, so there are no batches"),
    ],
)
def test_what_has_no_meaning_beside_it_is_said(conf, run, words, problem):
    outcome = run(BaseSystem, *A, *words)
    assert (outcome.status, problem in outcome.err) == (2, True), outcome.err
