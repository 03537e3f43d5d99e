"""The recipe of the Asterisk prompts, on packages of the same form with a few tones in them."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from omegaconf import OmegaConf

from espnet3.components.data.dataset_module import load_dataset_module
from espnet3.components.data.kaldi.directory import KALDI_REQUIRES, read_kaldi_dir
from espnet3.errors import ConfigError, DataError, RunFailed
from espnet3.systems.base.system import BaseSystem
from espnet3.systems.launch import launch

RECIPE = Path(__file__).parents[2] / "egs3/asterisk_prompts/asr"
TEXTS = """\ufeff; Core Asterisk Sounds

auth-thankyou: Thank you.
beep: [this is a simple beep tone]
digits/0: zero
digits/0: ten
letters/dash: dash [-]
conf-adminmenu: conf-adminmenu: Press 1 to mute, 12 to leave.
demo-instruct: This one is much too long.
is:
no-audio: This has no audio.
silence/1: (1 second of silence)
spy-iax2: IAX (note: does not say "2")
"""
SECONDS = {
    "auth-thankyou": 1.0,
    "beep": 0.5,
    "digits/0": 0.6,
    "letters/dash": 0.7,
    "silence/1": 1.0,
    "conf-adminmenu": 2.0,
    "demo-instruct": 50.0,
    "no-text": 1.0,
    "spy-iax2": 0.9,
}


def write_g722(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 8000 * np.sin(np.arange(int(seconds * 16000)) * 2 * np.pi * 440 / 16000)
    with av.open(str(path), "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def make_package(root: Path, name: str, to: Path) -> None:
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: none\nDescription: -\n"
    )
    deb = str(to / f"{name}_1.0_all.deb")
    subprocess.run(["dpkg-deb", "--build", str(root), deb], check=True, capture_output=True)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("there is no dpkg-deb to make packages with")
    tmp = tmp_path_factory.mktemp("packages")
    audio, texts = tmp / "audio", tmp / "texts"
    for key, seconds in SECONDS.items():
        sounds = audio / "usr/share/asterisk/sounds/en_US_f_Allison"
        write_g722(sounds / f"{key}.g722", seconds)
    (sounds / "is.g722").touch()
    doc = texts / "usr/share/doc/asterisk-core-sounds-en"
    doc.mkdir(parents=True)
    with gzip.open(doc / "core-sounds-en.txt.gz", "wt", encoding="utf-8") as file:
        file.write(TEXTS)
    (tmp / "debs").mkdir()
    make_package(audio, "asterisk-core-sounds-en-g722", tmp / "debs")
    make_package(texts, "asterisk-core-sounds-en", tmp / "debs")
    return tmp / "debs"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the recipe, as the current directory."""
    copy = tmp_path / "asr"
    shutil.copytree(RECIPE, copy, ignore=shutil.ignore_patterns("data", "exp", "__pycache__"))
    for name in [name for name in sys.modules if name.split(".")[0] == "src"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(copy))
    monkeypatch.chdir(copy)
    return copy


def part(recipe: Path, name: str) -> Any:
    """A module of the recipe's ``dataset/``."""
    module = load_dataset_module(recipe_dir=recipe)
    return __import__(f"{module.__name__}.{name}", fromlist=["x"])


def test_packages_are_unpacked_whole_or_not_at_all(recipe: Path, packages: Path) -> None:
    unpack = part(recipe, "packages")
    source = recipe / "data/source"
    with pytest.raises(DataError, match=r"there is no asterisk-core-sounds-fr-g722_\*\.deb"):
        unpack.fetch("fr", source, packages)
    assert not (source / "fr").exists()
    unpack.fetch("en", source, packages)
    assert (unpack.audio_dir(source, "en") / "digits/0.g722").stat().st_size == 4800
    assert unpack.transcript_file(source, "en").is_file()
    with pytest.raises(ConfigError, match="'de' is none of en, es, fr, it, ru"):
        unpack.fetch("de", source, packages)


def test_damaged_package_is_named(recipe: Path, tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("there is no dpkg-deb to read packages with")
    (tmp_path / "asterisk-core-sounds-en-g722_1_all.deb").write_text("no package")
    with pytest.raises(DataError, match=r"core-sounds-en-g722_1_all\.deb: `dpkg-deb .* failed: "):
        part(recipe, "packages").fetch("en", recipe / "data/source", tmp_path)


def test_transcripts_are_read_with_all_that_is_odd_in_them(recipe: Path, packages: Path) -> None:
    unpack, transcripts = part(recipe, "packages"), part(recipe, "transcripts")
    unpack.fetch("en", recipe / "data/source", packages)
    texts = transcripts.read_transcripts(unpack.transcript_file(recipe / "data/source", "en"))
    assert len(texts) == 10
    assert texts["conf-adminmenu"] == "Press 1 to mute, 12 to leave."
    assert texts["digits/0"] == "zero"
    assert texts["is"] == ""


def test_line_without_a_key_is_named(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("a: b\nno key\n")
    with pytest.raises(DataError, match=r"texts\.gz, line 2: not `key: text`: 'no key'"):
        part(recipe, "transcripts").read_transcripts(path)


def create(recipe: Path, packages: Path, **keys: object) -> None:
    config = OmegaConf.load(recipe / "conf/training.yaml")
    config.create_dataset.packages_dir = str(packages)
    config.create_dataset.update(keys)
    config.parallel = None
    BaseSystem(training_config=config).create_dataset()


def test_data_directory_has_what_is_spoken_and_says_what_is_left_out(
    recipe: Path, packages: Path
) -> None:
    create(recipe, packages)
    data = read_kaldi_dir(recipe / "data/en", require=KALDI_REQUIRES)
    assert data["text"].as_dict() == {
        "en_US_f_Allison-auth-thankyou": "thank you",
        "en_US_f_Allison-conf-adminmenu": "press one to mute twelve to leave",
        "en_US_f_Allison-digits.0": "zero",
        "en_US_f_Allison-letters.dash": "dash",
        "en_US_f_Allison-spy-iax2": "iax",
    }
    assert data["utt2num_samples"].as_dict()["en_US_f_Allison-digits.0"] == "9600"
    assert (recipe / "data/en/dropped.tsv").read_text().splitlines()[1:] == [
        "en_US_f_Allison-beep\tempty text\t",
        "en_US_f_Allison-is\tempty text\t",
        "en_US_f_Allison-no-text\tno text\t",
        "en_US_f_Allison-silence.1\tempty text\t",
        "en_US_f_Allison-demo-instruct\ttoo long\t50",
    ]
    dataset = load_dataset_module(recipe_dir=recipe).Dataset("en")
    assert dataset.durations() == [1.0, 2.0, 0.6, 0.7, 0.9]
    item = dataset[2]
    assert (item["speaker"], item["sample_rate"], item["speech"].shape) == (
        "en_US_f_Allison", 16000, (9600,),
    )  # fmt: skip
    assert 0.2 < np.abs(item["speech"]).max() < 0.3  # the tone's 8000 of 32768


def test_what_is_there_is_not_built_again_and_what_is_damaged_is(
    recipe: Path, packages: Path, caplog: pytest.LogCaptureFixture
) -> None:
    create(recipe, packages)
    before = (recipe / "data/en/built.json").stat().st_mtime_ns
    create(recipe, packages)
    assert (recipe / "data/en/built.json").stat().st_mtime_ns == before
    (recipe / "data/en/text").write_text("")
    caplog.set_level("INFO", "espnet3")
    create(recipe, packages)
    assert "data/en/text has 0 bytes" in caplog.text
    assert "6 of 6 utterances are there already" in caplog.text  # the audio is not formatted again
    assert len((recipe / "data/en/text").read_text().splitlines()) == 5
    create(recipe, packages, max_seconds=60)
    assert len((recipe / "data/en/text").read_text().splitlines()) == 6


def test_recipe_that_was_moved_reads_its_own_audio(
    recipe: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(recipe, packages)
    moved = recipe.rename(recipe.with_name("moved"))
    monkeypatch.chdir(moved)
    create(moved, packages)
    assert load_dataset_module(recipe_dir=moved).Dataset("en")[0]["speech"].shape == (16000,)


def test_broken_recording_with_a_transcript_is_named_and_costs_itself_alone(
    recipe: Path, packages: Path
) -> None:
    unpack = part(recipe, "packages")
    unpack.fetch("en", recipe / "data/source", packages)
    broken = unpack.audio_dir(recipe / "data/source", "en") / "auth-thankyou.g722"
    good = broken.read_bytes()
    broken.write_bytes(b"")
    with pytest.raises(RunFailed, match=r"en_US_f_Allison-auth-thankyou[\s\S]*is empty \(0 bytes"):
        create(recipe, packages)
    assert not (recipe / "data/en/built.json").exists()
    broken.write_bytes(good)
    create(recipe, packages)
    assert (recipe / "data/en/built.json").exists()


def test_language_that_was_not_built_is_named(recipe: Path) -> None:
    with pytest.raises(DataError, match=r"'ru' of asterisk_prompts is not there.*create_dataset"):
        load_dataset_module(recipe_dir=recipe).Dataset("ru")


def test_hypotheses_are_normalised_like_transcripts(recipe: Path) -> None:
    from egs3.asterisk_prompts.asr.src.scoring import with_normalised_text

    written = with_normalised_text({}, {"text": "Press 1, or dial 4242 for P.B.X.!"}, 0)
    assert written == {
        "text": "Press 1, or dial 4242 for P.B.X.!",
        "normalised": "press one or dial four two four two for pbx",
    }


def test_features_are_log_mel_bands(recipe: Path) -> None:
    from egs3.asterisk_prompts.asr.src.features import log_mel

    tone = np.sin(np.arange(16000) * 2 * np.pi * 1000 / 16000).astype(np.float32)
    feats = log_mel({"speech": tone, "sample_rate": 16000})["feats"]
    assert (feats.shape, feats.dtype) == ((101, 80), np.float32)
    # 1000 Hz are 1000 mel of 2840, which 81 steps make: band 28 is the nearest.
    assert set(feats[5:-5].argmax(axis=1)) == {28}


@pytest.mark.parametrize("configs", [["inference"], ["inference", "whisper"]])
def test_all_stages_agree_with_their_configs(
    recipe: Path, packages: Path, configs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    create(recipe, packages)
    launch(
        BaseSystem,
        ["--stages", "create_dataset", "collect_stats", "infer", "measure", "--dry_run"]
        + ["--training_config", "conf/training.yaml", "--metrics_config", "conf/metrics.yaml"]
        + ["--inference_config", *(f"conf/{name}.yaml" for name in configs)],
    )
    told = capsys.readouterr().out
    assert told.count("items: 5") == 2  # of collect_stats and infer
