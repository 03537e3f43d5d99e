"""DataOrganizer and the data sets that it makes, from recipe directories on disk."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from espnet3.components.data.data_organizer import DataOrganizer
from espnet3.components.data.dataset import CombinedDataset, DatasetWithTransform
from espnet3.errors import ConfigError

DATASET = """
class Dataset:
    built = []
    def __init__(self, split, size=2):
        self.built.append(split)
        self.split, self.size = split, size
    def __len__(self):
        return self.size
    def __getitem__(self, i):
        return {"utt_id": self.utt_id(i), "text": f"{self.split} {i}"}
    def utt_id(self, i):
        return f"{self.split}-{i}"
    def durations(self):
        return [1.0 + i for i in range(self.size)]
    def fingerprint(self):
        return f"{self.split} {self.size}"
    def column(self, name):
        return [self[i][name] for i in range(self.size)]
    thread_safe = True
"""

FUNCTIONS = """
def shout(item):
    return {**item, "text": item["text"].upper()}

class Suffix:
    def __init__(self, suffix):
        self.suffix = suffix
    def __call__(self, item):
        return {**item, "text": item["text"] + self.suffix}

class AbsPreprocessor:
    def __init__(self, train):
        self.train = train

class Preprocessor(AbsPreprocessor):
    def __init__(self, train, mark="!"):
        super().__init__(train)
        self.mark = mark
    def __call__(self, uid, item):
        return {**item, "text": f"{uid} {self.train} {self.mark}"}
"""


class Plain:
    """A data set that offers nothing but items."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, str]:
        return {"text": str(index)}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "__init__.py").write_text("from .data import Dataset\n")
    (tmp_path / "dataset" / "data.py").write_text(DATASET)
    (tmp_path / "organizer_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "organizer_functions", raising=False)
    return tmp_path


def entry(split: str, **more: Any) -> dict[str, Any]:
    return {"data_src_args": {"split": split}, **more}


def texts(dataset: Any) -> list[str]:
    return [dataset[i]["text"] for i in range(len(dataset))]


def target(name: str, **more: Any) -> dict[str, Any]:
    return {"_target_": f"organizer_functions.{name}", **more}


def test_splits_and_test_sets(recipe: Path) -> None:
    organizer = DataOrganizer(
        train=[entry("a"), entry("b", data_src_args={"split": "b", "size": 3})],
        valid=[entry("v")],
        test=[entry("x", name="clean"), entry("y", name="other")],
        recipe_dir=recipe,
    )
    assert texts(organizer.train) == ["a 0", "a 1", "b 0", "b 1", "b 2"]
    assert texts(organizer.valid) == ["v 0", "v 1"]
    assert list(organizer.test) == ["clean", "other"]
    assert texts(organizer.test["other"]) == ["y 0", "y 1"]
    with pytest.raises(KeyError, match="no test set 'dev'; there are clean, other"):
        organizer.test["dev"]


def test_one_test_set_does_not_build_the_others(recipe: Path) -> None:
    organizer = DataOrganizer(
        train=[entry("t")],
        test=[entry("x", name="clean"), entry("y", name="other")],
        recipe_dir=recipe,
    )
    one = organizer.test["other"]
    assert one.dataset.built == ["y"]
    assert organizer.test["other"] is one
    assert organizer.valid is None


def test_from_a_hydra_config(recipe: Path) -> None:
    from hydra.utils import instantiate

    config = OmegaConf.create(
        {
            "recipe_dir": str(recipe),
            "dataset": {
                "_target_": "espnet3.components.data.data_organizer.DataOrganizer",
                "_recursive_": False,
                "recipe_dir": "${recipe_dir}",
                "test": [
                    {
                        "name": "x",
                        "data_src_args": {"split": "x"},
                        "transform": target("Suffix", suffix="?"),
                    }
                ],
                "preprocessor": target("Suffix", suffix="."),
            },
        }
    )
    assert texts(instantiate(config.dataset).test["x"]) == ["x 0?.", "x 1?."]


def test_transform_comes_before_the_preprocessor_and_an_entry_may_have_its_own(
    recipe: Path,
) -> None:
    organizer = DataOrganizer(
        test=[
            entry("x", name="common", transform=lambda item: {**item, "text": item["text"] + "t"}),
            entry("x", name="own", preprocessor=target("Suffix", suffix="o")),
        ],
        preprocessor=target("Suffix", suffix="p"),
        recipe_dir=recipe,
    )
    assert texts(organizer.test["common"])[0] == "x 0tp"
    assert texts(organizer.test["own"])[0] == "x 0o"


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ({"train": "T", "valid": "V", "test": "E"}, {"train": "T", "valid": "V", "test": "E"}),
        ({"train": "T", "valid": "V"}, {"train": "T", "valid": "V", "test": "V"}),
        ({"train": "T"}, {"train": "T", "valid": "T", "test": "T"}),
        ({"valid": "V"}, {"train": "", "valid": "V", "test": "V"}),
        ({"test": "E"}, {"train": "", "valid": "", "test": "E"}),
    ],
)
def test_a_split_preprocessor_falls_back_as_espnet3_does(
    recipe: Path, blocks: dict[str, str], expected: dict[str, str]
) -> None:
    config: dict[str, Any] = {name: {"suffix": suffix} for name, suffix in blocks.items()}
    organizer = DataOrganizer(
        train=[entry("x")],
        valid=[entry("x")],
        test=[entry("x", name="x")],
        preprocessor={"_target_": "organizer_functions.Suffix", **config},
        recipe_dir=recipe,
    )
    found = {"train": organizer.train, "valid": organizer.valid, "test": organizer.test["x"]}
    assert {name: texts(ds)[0].removeprefix("x 0") for name, ds in found.items()} == expected


@pytest.mark.parametrize("train_mode", [True, False])
@pytest.mark.parametrize("as_config", [True, False])
def test_an_espnet2_preprocessor_gets_the_id_and_its_train_flag(
    recipe: Path, as_config: bool, train_mode: bool
) -> None:
    preprocessor: Any = target("Preprocessor", mark="m")
    if not as_config:
        from organizer_functions import Preprocessor  # type: ignore[import-not-found]

        preprocessor = Preprocessor(train=True, mark="m")
    organizer = DataOrganizer(
        train=[entry("x")],
        valid=[entry("x")],
        test=[entry("x", name="x")],
        preprocessor=preprocessor,
        recipe_dir=recipe,
        train_mode=train_mode,
    )
    train, valid = organizer.train, organizer.valid
    assert texts(organizer.test["x"])[1] == "x-1 False m"
    assert texts(train)[1] == f"x-1 {train_mode} m"
    assert texts(valid)[1] == "x-1 False m"


def test_what_the_data_offer_is_handed_on(recipe: Path) -> None:
    organizer = DataOrganizer(
        train=[entry("a"), entry("b")], test=[entry("a", name="a")], recipe_dir=recipe
    )
    one, both = organizer.test["a"], organizer.train
    assert both is not None
    assert (one.utt_id(1), both.utt_id(3)) == ("a-1", "b-1")
    assert (one.durations(), both.durations()) == ([1.0, 2.0], [1.0, 2.0, 1.0, 2.0])
    assert one.fingerprint() == "a 2"
    assert both.fingerprint() != CombinedDataset(reversed(both.datasets)).fingerprint()
    assert (one.thread_safe, both.thread_safe) == (True, True)
    assert both.column("text") == texts(both)


def test_what_the_data_do_not_offer_is_not_there() -> None:
    wrapped = DatasetWithTransform(Plain())
    for dataset in (wrapped, CombinedDataset([wrapped, wrapped]), CombinedDataset([])):
        for name in ("utt_id", "durations", "fingerprint", "thread_safe", "column", "anything"):
            assert not hasattr(dataset, name)
    assert not hasattr(CombinedDataset([wrapped]), "_anything")


def test_one_poor_data_set_makes_the_combination_poor(recipe: Path) -> None:
    rich = DataOrganizer(test=[entry("a", name="a")], recipe_dir=recipe).test["a"]
    combined = CombinedDataset([rich, Plain()])
    assert not hasattr(combined, "durations")
    assert len(combined) == 4


def test_functions_take_back_what_they_may_break(recipe: Path) -> None:
    inner = DataOrganizer(test=[entry("a", name="a")], recipe_dir=recipe).test["a"]

    def change(item: dict[str, Any]) -> dict[str, Any]:
        return item

    wrapped = DatasetWithTransform(inner, transform=change)
    assert not hasattr(wrapped, "column")
    assert wrapped.thread_safe is False
    change.thread_safe = True  # type: ignore[attr-defined]
    assert wrapped.thread_safe is True
    assert wrapped.durations() == [1.0, 2.0]


def test_wrappers_can_be_copied_and_pickled() -> None:
    combined = CombinedDataset([DatasetWithTransform(Plain())])
    for again in (copy.deepcopy(combined), pickle.loads(pickle.dumps(combined))):
        assert texts(again) == ["0", "1"]


@pytest.mark.parametrize("index", [-1, 2])
def test_no_item_outside(index: int) -> None:
    with pytest.raises(IndexError, match=f"item {index} .* 2 items"):
        CombinedDataset([Plain()])[index]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test": [entry("x", transfrom=None)]}, r"test\[0\].*'transfrom'.*'transform'"),
        ({"test": {"name": "x"}}, r"dataset.test is a list"),
        ({"train": ["x"]}, r"dataset.train\[0\] is a mapping"),
        ({"test": [entry("x"), entry("y")]}, r"two test sets are called 'local'"),
        ({"test": [entry("x", name="../x")]}, r"'../x' cannot be a directory name"),
        ({"preprocessor": 3}, r"preprocessor is a callable or a config, not 3"),
    ],
)
def test_a_wrong_config_is_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataOrganizer(**arguments)


def test_a_wrong_transform_is_named(recipe: Path) -> None:
    organizer = DataOrganizer(test=[entry("x", name="x", transform=3)], recipe_dir=recipe)
    with pytest.raises(TypeError, match="transform is to be callable, not 3"):
        organizer.test["x"]
    organizer = DataOrganizer(
        test=[entry("x", name="x")], preprocessor={"token_type": "bpe"}, recipe_dir=recipe
    )
    with pytest.raises(ConfigError, match="preprocessor needs `_target_`; it has token_type"):
        organizer.test["x"]
