"""`espnet3 new`: recipes that run as they are written."""

import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner

import espnet3
from espnet3.commands.main import main
from espnet3.components.data.kaldi.directory import write_kaldi_dir

ROOT = Path(espnet3.__file__).parents[1]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty directory, and this espnet3 for the processes that a recipe's test starts."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*words, status=0):
    done = CliRunner().invoke(main, ["new", *map(str, words)])
    assert done.exit_code == status, done.output
    return done.output


def run_its_test(recipe, tmp_path):
    """Run the test that came with a recipe."""
    path = recipe / "tests" / "test_recipe.py"
    spec = importlib.util.spec_from_file_location("test_of_a_recipe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "results").mkdir()
    module.test_recipe(tmp_path / "results")


def files(place):
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def test_a_new_recipe_runs_and_its_test_passes(here):
    said = new("toy/asr")
    recipe = here / "toy/asr"
    wanted = {"run.py", "tests/test_recipe.py", "dataset/builder.py", "src/provider.py"}
    wanted |= {f"conf/{role}.yaml" for role in ("training", "inference", "metrics")}
    assert wanted < {*files(recipe)}
    assert "cd toy/asr\npython run.py --stages create_dataset infer measure" in said
    run_its_test(recipe, here)
    assert "| test | 3/3 | 8 | 12.50 |" in (here / "results/metrics.md").read_text()
    assert not (recipe / "exp").exists()
    for path in files(recipe):
        if not path.startswith("data/") and "__pycache__" not in path:
            assert not re.search(r"@[a-z_]+@", (recipe / path).read_text()), path


def test_a_recipe_goes_below_egs3_where_that_is(here):
    (here / "egs3").mkdir()
    new("toy/asr")
    assert (here / "egs3/toy/asr/run.py").is_file()


@pytest.mark.parametrize(
    "name", ["toy", "toy/", "/asr", "../asr", "toy/asr/x", "my-toy/asr", "1toy/asr", "toy/class"]
)
def test_names_that_python_cannot_import_are_refused(here, name):
    assert "write <corpus>/<task>" in new(name, status=1)
    assert list(here.iterdir()) == []


def test_nothing_is_overwritten_unless_one_says_so(here):
    new("toy/asr")
    model = here / "toy/asr/src/model.py"
    model.write_text("mine")
    assert "src/model.py, src/provider.py, tests/test_recipe.py already" in new("toy/asr", status=1)
    assert model.read_text() == "mine"
    new("toy/asr", "--overwrite")
    assert "class ToneModel" in model.read_text()
    new("toy/asr", "--out", "elsewhere")
    assert (here / "elsewhere/run.py").is_file()
    assert "name one of" in new("toy/asr", "--from-kaldi", here, status=2)
    assert "name one of" in new(status=2)


def kaldi(place, **tables):
    soundfile.write("call.flac", 0.1 * np.ones(48000), 16000)
    write_kaldi_dir(place, {name.replace("_", "."): table for name, table in tables.items()})


def test_a_kaldi_directory_with_segments_is_decoded_where_its_paths_count_from(here):
    kaldi(
        "data/test",
        wav_scp={"call": "call.flac"},
        segments={"ann-1": "call 0 1.25", "ann-2": "call 1.5 3"},
        text={"ann-1": "a", "ann-2": "b"},
        utt2spk={"ann-1": "ann", "ann-2": "ann"},
    )
    said = new("--from-kaldi", "data/test", "--out", "recipe")
    assert "note: the model is a placeholder" in said
    assert f"start run.py in {here}" in said
    assert f"--metrics_config {here}/recipe/conf/metrics.yaml" in said
    run_its_test(here / "recipe", here)


def test_a_kaldi_directory_of_commands_without_texts(here):
    kaldi("data/test", wav_scp={"u1": f"cat {here}/call.flac |"}, utt2spk={"u1": "s"})
    said = new("--from-kaldi", "data/test")
    assert "has no text, so there is nothing to measure by" in said
    assert "allow_pipes: true" in said
    recipe = here / "decode_test"
    assert "conf/metrics.yaml" not in files(recipe)
    config = yaml.safe_load((recipe / "conf/inference.yaml").read_text())
    assert config["dataset"]["test"][0]["data_src_args"]["allow_pipes"] is True
    run_its_test(recipe, here)


def test_a_kaldi_directory_of_features(here):
    write_kaldi_dir("feats", {"feats.scp": {"u1": "/x/feats.ark:5"}, "utt2spk": {"u1": "s"}})
    new("--from-kaldi", "feats", "--out", "recipe")
    config = yaml.safe_load((here / "recipe/conf/inference.yaml").read_text())
    assert config["input_key"] == "feats"
    assert "_target_" in config["model"]
    model = (here / "recipe/src/model.py").read_text()
    compile(model, "model.py", "exec")
    assert "def __call__(self, feats: Any)" in model


def test_a_directory_that_is_no_kaldi_directory_writes_nothing(here):
    (here / "data").mkdir()
    new("--from-kaldi", "data", "--out", "recipe", status=1)
    assert not (here / "recipe").exists()


def test_the_model_that_is_offered_is_there(here):
    template = ROOT / "espnet3/skeleton/new.py"
    target = re.search(r"# _target_: (\S+)\.(\w+)", template.read_text())
    path = ROOT / (target[1].replace(".", "/") + ".py")
    assert f"class {target[2]}:" in path.read_text()
