"""A system's stages and methods must belong together; the base system's own stages."""

from __future__ import annotations

import os

import pytest
from omegaconf import OmegaConf

from espnet3.errors import ConfigError, DataError
from espnet3.systems.base.stages import StageSpec
from espnet3.systems.base.system import BaseSystem


def test_base_stages_are_in_order():
    names = [stage.name for stage in BaseSystem.stages]
    assert names == ["create_dataset", "collect_stats", "train", "infer", "measure"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"stages": (StageSpec("decode", "inference"),)}, "'decode' has no public method"),
        ({"stages": [StageSpec("infer", "inference")]}, "must be a tuple of StageSpec"),
        ({"stages": BaseSystem.stages * 2}, "'infer' is declared twice"),
        ({"helper": lambda self: None}, r"helper\(\) is no declared stage"),
        ({"infer": lambda self, split: None}, "must take no argument but self"),
        ({"stages": (StageSpec("infer", "demo"),)}, "no argument demo_config"),
        ({"stages": (StageSpec("infer", ()),)}, "one role or more"),
    ],
)
def test_mismatch_is_an_error_when_the_class_is_defined(body, message):
    with pytest.raises(ConfigError, match=message):
        type("Wrong", (BaseSystem,), body)


def test_private_helpers_and_extra_roles_are_fine():
    class Wide(BaseSystem):
        stages = (*BaseSystem.stages, StageSpec("tokenize", ("training", "tokens"), "exp_dir"))

        def __init__(self, tokens_config=None, **configs):
            super().__init__(**configs)
            self.tokens_config = tokens_config

        def tokenize(self):
            return self._helper()

        def _helper(self):
            return self.tokens_config

    assert Wide(tokens_config=OmegaConf.create({"a": 1})).tokenize().a == 1


@pytest.mark.parametrize("stage", ["create_dataset", "collect_stats", "train", "infer", "measure"])
def test_a_stage_without_its_config_says_which_one_it_needs(stage):
    with pytest.raises(ConfigError, match=f"{stage} needs a .* config"):
        getattr(BaseSystem(), stage)()


def test_train_says_that_it_is_not_built():
    with pytest.raises(ConfigError, match="train is not built yet"):
        BaseSystem(training_config=OmegaConf.create({})).train()


BUILDER = """
from pathlib import Path

class DatasetBuilder:
    def is_source_prepared(self, recipe_dir, **_):
        return (Path(recipe_dir) / "source").exists()
    def prepare_source(self, recipe_dir, **_):
        (Path(recipe_dir) / "source").mkdir()
    def is_built(self, recipe_dir, **_):
        return (Path(recipe_dir) / "built").exists()
    def build(self, recipe_dir, broken=False, **_):
        with open(Path(recipe_dir) / "calls", "a") as calls:
            calls.write("build\\n")
        if not broken:
            (Path(recipe_dir) / "built").mkdir()
"""


def dataset_config(recipe, **create_dataset):
    recipe.write("dataset/__init__.py", BUILDER)
    return OmegaConf.create(
        {
            "recipe_dir": str(recipe.root),
            "create_dataset": create_dataset,
            "dataset": {
                "train": [{"data_src_args": {"split": "train"}}],
                "test": [{"name": "test", "data_src_args": {"split": "test"}}],
            },
        }
    )


def test_create_dataset_builds_each_source_once(recipe):
    config = dataset_config(recipe, recipe_dir="${recipe_dir}")
    BaseSystem(training_config=config).create_dataset()
    BaseSystem(training_config=config).create_dataset()
    assert (recipe.root / "calls").read_text() == "build\n"
    assert (recipe.root / "source").is_dir()


def test_runners_of_a_builder_run_where_the_config_says(recipe):
    config = dataset_config(recipe)
    recipe.write(
        "dataset/__init__.py",
        """
import os
from pathlib import Path
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import parallel_map

def pid(element):
    return os.getpid()

class Nothing(EnvironmentProvider):
    def build_env_local(self):
        return {}

class Pids(BaseRunner):
    @staticmethod
    def forward(idx):
        return os.getpid()

class DatasetBuilder:
    def is_source_prepared(self):
        return True
    def prepare_source(self):
        pass
    def is_built(self):
        return Path("pids").exists()
    def build(self):
        pids = Pids(Nothing(), output_dir="data")(range(3))
        pids += parallel_map(pid, range(3))
        Path("pids").write_text(" ".join(map(str, pids)))
""",
    )
    config.parallel = {"env": "local", "n_workers": 2}
    BaseSystem(training_config=config).create_dataset()
    pids = set(map(int, (recipe.root / "pids").read_text().split()))
    assert os.getpid() not in pids


def test_create_dataset_leaves_sources_without_a_builder_alone(recipe):
    config = dataset_config(recipe)
    entry = {"data_src": "espnet3.components.data.kaldi_dataset", "data_src_args": {"path": "x"}}
    config.dataset = {"test": [entry]}
    BaseSystem(training_config=config).create_dataset()


def test_create_dataset_checks_that_building_has_built(recipe):
    config = dataset_config(recipe, recipe_dir="${recipe_dir}", broken=True)
    with pytest.raises(DataError, match=r"is_built\(\) still says no"):
        BaseSystem(training_config=config).create_dataset()


def test_create_dataset_names_keys_that_do_not_fit(recipe):
    config = dataset_config(recipe)
    with pytest.raises(ConfigError, match="create_dataset: .*recipe_dir"):
        BaseSystem(training_config=config).create_dataset()
    assert not (recipe.root / "source").exists()


def test_create_dataset_without_any_entry_is_an_error():
    config = OmegaConf.create({"dataset": {"train": None}})
    with pytest.raises(ConfigError, match="no entry under train, valid or test"):
        BaseSystem(training_config=config).create_dataset()
