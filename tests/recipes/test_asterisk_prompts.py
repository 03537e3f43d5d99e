"""The recipe of the Asterisk prompts, on packages of the same form with a few tones in them."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from espnet3.components.data.dataset_module import load_dataset_module
from espnet3.errors import ConfigError, DataError

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


def part(recipe: Path, name: str) -> object:
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
    assert {key: transcripts.spoken(text) for key, text in texts.items()} == {
        "auth-thankyou": "Thank you.",
        "beep": "",
        "digits/0": "zero",
        "letters/dash": "dash",
        "conf-adminmenu": "Press 1 to mute, 12 to leave.",
        "demo-instruct": "This one is much too long.",
        "is": "",
        "no-audio": "This has no audio.",
        "silence/1": "",
        "spy-iax2": "IAX",
    }


def test_line_without_a_key_is_named(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("a: b\nno key\n")
    with pytest.raises(DataError, match=r"texts\.gz, line 2: not `key: text`: 'no key'"):
        part(recipe, "transcripts").read_transcripts(path)
