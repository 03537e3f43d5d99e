"""Finding data set modules: by tag, by dotted path, in the recipe."""

import shutil
from pathlib import Path

import pytest

from espnet3.components.data.dataset_module import (
    instantiate_dataset_reference,
    load_dataset_module,
)
from espnet3.errors import ConfigError, IdentityChanged


def write_module(directory: Path, text: str) -> None:
    directory.mkdir(parents=True)
    (directory / "__init__.py").write_text(text)


def test_a_recipe_of_its_own_is_loaded_once_from_its_path(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_module(tmp_path / name / "dataset", f"from .more import *\nNAME = {name!r}\n")
        (tmp_path / name / "dataset" / "more.py").write_text("from . import __name__ as OUTER\n")
    one, two = (load_dataset_module(recipe_dir=tmp_path / name) for name in ("one", "two"))
    assert (one.NAME, two.NAME) == ("one", "two")
    assert load_dataset_module(None, tmp_path / "two" / ".." / "one") is one


def test_a_broken_recipe_module_can_be_mended_and_loaded_again(tmp_path: Path) -> None:
    write_module(tmp_path / "dataset", "import no_such_thing")
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        load_dataset_module(recipe_dir=tmp_path)
    (tmp_path / "dataset" / "__init__.py").write_text("MENDED = 'yes, and of another length'")
    assert load_dataset_module(recipe_dir=tmp_path).MENDED.startswith("yes")


def test_tag_and_dotted_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path / "corpora_for_tests", "class Dataset:\n    x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_dataset_module("corpora_for_tests").Dataset.x == 1
    assert load_dataset_module("mini_an4/asr").__name__ == "egs3.mini_an4.asr.dataset"
    assert load_dataset_module("mini-an4/asr").Dataset.__name__ == "MiniAn4Dataset"


@pytest.mark.parametrize(
    ("data_src", "recipe_dir", "message"),
    [
        ("no-corpus/asr", None, "'egs3.no_corpus'.*'egs3.no_corpus.asr.dataset'"),
        ("no_such_package.data", None, "no module 'no_such_package'"),
        (".relative", None, "'.relative'.* no module name"),
        ("a//b", None, "'egs3.a..b.dataset'.* no module name"),
        (None, None, "recipe_dir is not set"),
        (None, "nowhere", "nowhere/dataset/__init__.py does not exist"),
    ],
)
def test_errors_say_what_was_looked_for(
    data_src: str | None, recipe_dir: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_dataset_module(data_src, recipe_dir)


def test_a_failing_import_inside_the_module_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path / "importing_for_tests", "import missing_inside\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="missing_inside"):
        load_dataset_module("importing_for_tests")


def test_instantiate(tmp_path: Path) -> None:
    write_module(tmp_path / "dataset", "def Dataset(**kwargs):\n    return kwargs\n")
    assert instantiate_dataset_reference({"name": "x", "transform": 1}, tmp_path) == {}
    arguments = {"split": "test"}
    assert instantiate_dataset_reference({"data_src_args": arguments}, tmp_path) == arguments


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"data_src": 3}, "data_src is text"),
        ({"data_src_args": ["split"]}, "data_src_args is a mapping"),
        ({"data_src": "json"}, "'json'.*has no `Dataset`"),
    ],
)
def test_a_wrong_entry(entry: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        instantiate_dataset_reference(entry)


def test_a_run_of_a_recipes_own_runner_goes_on_where_the_recipe_was_copied_to(
    tmp_path: Path,
) -> None:
    own = tmp_path / "here" / "dataset"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text("from .steps import Provider, Runner\n")
    (own / "steps.py").write_text(
        "from espnet3.parallel.base_runner import BaseRunner\n"
        "from espnet3.parallel.env_provider import EnvironmentProvider\n"
        "class Provider(EnvironmentProvider):\n"
        "    def build_env_local(self): return {'n': 2}\n"
        "class Runner(BaseRunner):\n"
        "    @staticmethod\n"
        "    def forward(idx, n): return n * idx\n"
    )

    def run(recipe: Path) -> object:
        module = load_dataset_module(None, recipe)
        return module.Runner(module.Provider(), output_dir=recipe / "exp")(range(3))

    assert run(tmp_path / "here") == [0, 2, 4]
    for copy in ("there", "edited"):
        shutil.copytree(tmp_path / "here", tmp_path / copy)
    assert run(tmp_path / "there") == [0, 2, 4]
    with (tmp_path / "edited/dataset/steps.py").open("a") as steps:
        steps.write("print('edited')\n")
    with pytest.raises(IdentityChanged, match=r"edited since: dataset\.steps\."):
        run(tmp_path / "edited")
