"""The mini_an4 recipe's data and model, from the archive to a decoded utterance."""

import io
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from espnet3.components.data.dataset_module import load_dataset_module
from espnet3.errors import DataError

RECIPE = Path(__file__).parents[2] / "egs3" / "mini_an4" / "asr"

TEXTS = {
    "test": {
        "fcaw-cen8-fcaw-b": "ELEVEN TWENTY SEVEN FIFTY SEVEN",
        "mmxg-cen8-mmxg-b": "OCTOBER TWENTY FOUR NINETEEN SEVENTY",
    },
    "train": {
        "fash-an251-fash-b": "YES",
        "fash-an253-fash-b": "GO",
        "fbbh-cen8-fbbh-b": "MARCH THIRD NINETEEN TWENTY EIGHT",
        "mwhw-an152-mwhw-b": "START",
        "mwhw-cen8-mwhw-b": "ELEVEN SEVENTEEN FIFTY ONE",
    },
}


def copy_recipe(to: Path) -> Path:
    return Path(shutil.copytree(RECIPE, to, ignore=shutil.ignore_patterns("data", "exp")))


def builder_of(recipe: Path) -> Any:
    return load_dataset_module(recipe_dir=recipe).DatasetBuilder()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the recipe with its data built."""
    recipe = copy_recipe(tmp_path_factory.mktemp("mini_an4") / "asr")
    builder = builder_of(recipe)
    assert not builder.is_source_prepared(recipe_dir=recipe)
    builder.prepare_source(recipe_dir=recipe)
    assert builder.is_source_prepared(recipe_dir=recipe)
    assert not builder.is_built(recipe_dir=recipe)
    builder.build(recipe_dir=recipe)
    assert builder.is_built(recipe_dir=recipe)
    return recipe


def dataset(recipe: Path, split: str) -> Any:
    return load_dataset_module(recipe_dir=recipe).Dataset(split=split)


@pytest.mark.parametrize("split", TEXTS)
def test_ids_and_texts(recipe: Path, split: str) -> None:
    data = dataset(recipe, split)
    assert dict(zip(data.column("utt_id"), data.column("text"), strict=True)) == TEXTS[split]
    assert [data.utt_id(i) for i in range(len(data))] == sorted(TEXTS[split])
    with pytest.raises(KeyError):
        data.column("speech")


def test_an_item_is_the_recording_sample_by_sample(recipe: Path) -> None:
    data = dataset(recipe, "test")
    item = data[1]
    sphere = recipe / "data/source/an4/wav/an4test_clstk/mmxg/cen8-mmxg-b.sph"
    samples, rate = soundfile.read(sphere, dtype="int16")
    assert (item["utt_id"], item["sample_rate"], rate) == ("mmxg-cen8-mmxg-b", 16000, 16000)
    assert item["speech"].dtype == np.float32
    assert np.array_equal(item["speech"] * 32768, samples)
    assert data.durations() == [2.9, 2.3]
    assert len(samples) == 2.3 * 16000


def test_the_fingerprint_is_that_of_the_data_not_of_their_place(
    recipe: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(recipe, moved)
    assert dataset(moved, "test").fingerprint() == dataset(recipe, "test").fingerprint()
    assert dataset(recipe, "train").fingerprint() != dataset(recipe, "test").fingerprint()
    builder_of(moved).build(recipe_dir=moved)
    assert dataset(moved, "test").fingerprint() == dataset(recipe, "test").fingerprint()


@pytest.mark.parametrize("damage", ["no marker", "short wav", "lost wav", "lost manifest"])
def test_what_is_half_built_is_noticed_and_built_again(
    recipe: Path, tmp_path: Path, damage: str
) -> None:
    copy = tmp_path / "asr"
    shutil.copytree(recipe, copy)
    wav = copy / "data/train/wav/fash-an251-fash-b.wav"
    if damage == "no marker":
        (copy / "data/built.json").unlink()
    elif damage == "short wav":
        wav.write_bytes(wav.read_bytes()[:-100])
    elif damage == "lost wav":
        wav.unlink()
    else:
        (copy / "data/train/manifest.tsv").unlink()
    builder = builder_of(copy)
    assert not builder.is_built(recipe_dir=copy)
    builder.build(recipe_dir=copy)
    assert builder.is_built(recipe_dir=copy)


def test_an_archive_that_leaves_its_directory_is_refused(tmp_path: Path) -> None:
    copy = copy_recipe(tmp_path / "asr")
    with tarfile.open(copy / "downloads/an4_excerpt.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("../../escaped")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    builder = builder_of(copy)
    with pytest.raises(DataError, match="escaped"):
        builder.prepare_source(recipe_dir=copy)
    assert not builder.is_source_prepared(recipe_dir=copy)
    assert not list(tmp_path.rglob("escaped"))


def test_without_data_the_error_names_the_stage(tmp_path: Path) -> None:
    copy = copy_recipe(tmp_path / "asr")
    with pytest.raises(DataError, match="'test'.*run the create_dataset stage"):
        dataset(copy, "test")


def test_the_licence_beside_the_archive_is_the_archives() -> None:
    with tarfile.open(RECIPE / "downloads/an4_excerpt.tar.gz") as archive:
        licence = archive.extractfile("an4/LICENSE")
        assert licence is not None
        assert licence.read() == (RECIPE / "downloads/LICENSE.an4").read_bytes()


def test_decoding_does_not_depend_on_what_came_before(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from hydra.utils import instantiate

    for name in [name for name in sys.modules if name.split(".")[0] == "src"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.chdir(recipe)
    monkeypatch.syspath_prepend(str(recipe))
    config = OmegaConf.load("conf/inference.yaml")
    organizer, model = instantiate(config.dataset), instantiate(config.model, device="cpu")
    assert list(organizer.test) == ["test", "train"]
    speech = organizer.test["test"][1]["speech"]
    first = model(speech=speech)
    # The one error that this model makes in the whole excerpt.
    assert first == {"text": "OCTOBER TWENTY FOUR NINETY SEVENTY"}
    assert model(speech=organizer.test["train"][1]["speech"]) == {"text": "GO"}
    assert model(speech=speech) == first
    assert model(speech=(speech * 32768).astype(np.int16)) == first
    assert model(speech=np.zeros(0, dtype=np.float32)) == {"text": ""}
    assert capfd.readouterr() == ("", "")
    for name in [name for name in sys.modules if name.split(".")[0] == "src"]:
        monkeypatch.delitem(sys.modules, name)
