"""Archives are unpacked whole or not at all, and nothing of them gets outside."""

import io
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest

from espnet3.components.data import extract as module
from espnet3.components.data.extract import extract, extract_archive
from espnet3.components.data.fetch import archive_room
from espnet3.errors import ConfigError, DataError, RunFailed
from espnet3.parallel.parallel import parallel_session

from ..parallel.drivers import kill_when

ROOT = Path(__file__).parents[2]
DATA = random.Random(0).randbytes(200_000)
ROOT = Path(__file__).parents[2]


def make_tar(path, *members, mode="w"):
    """An archive of (name, content) and of (name, type, target)."""
    with tarfile.open(path, mode) as archive:
        for name, what, *target in members:
            info = tarfile.TarInfo(name)
            info.mtime = 1_000_000_000
            if isinstance(what, str):
                content, info.mode = what.encode(), 0o755 if what.startswith("#!") else 0o666
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
                continue
            info.type = what
            info.linkname = target[0] if target else ""
            archive.addfile(info)
    return path


def make_zip(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, what, *target in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if isinstance(what, str):
                archive.writestr(info, what)
                continue
            kind = {tarfile.SYMTYPE: stat.S_IFLNK, tarfile.FIFOTYPE: stat.S_IFIFO}[what]
            info.external_attr = (kind | 0o777) << 16
            archive.writestr(info, target[0] if target else "")
    return path


def tree(directory):
    return {
        str(path.relative_to(directory)): os.readlink(path)
        if path.is_symlink()
        else path.read_text()
        for path in directory.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def left(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"])
def test_formats(tmp_path, suffix):
    members = [("d/a.txt", "one"), ("b", "#!two"), ("./d/e/c", "three")]
    make, archive = make_zip, tmp_path / f"some.v1{suffix}"
    if suffix != ".zip":
        mode = {"tgz": "gz", "tar": ""}.get(suffix.split(".")[-1], suffix.split(".")[-1])
        make_tar(archive, *members, mode=f"w:{mode}")
    else:
        make(archive, *members)
    assert extract([archive], tmp_path / "out") == [tmp_path / "out/some.v1"]
    made = tmp_path / "out/some.v1"
    assert tree(made) == {"d/a.txt": "one", "b": "#!two", "d/e/c": "three"}
    assert left(tmp_path / "out") == ["run", "some.v1"]
    if suffix != ".zip":
        assert (made / "b").stat().st_mtime == 1_000_000_000
        assert [os.access(made / name, os.X_OK) for name in ("b", "d/a.txt")] == [True, False]


def test_links_that_stay_inside(tmp_path):
    archive = make_tar(
        tmp_path / "a.tar",
        ("d/e/file", "text"),
        ("d/up", tarfile.SYMTYPE, "../d/e/file"),
        ("d/dir", tarfile.SYMTYPE, "e"),
        ("d/hard", tarfile.LNKTYPE, "./d/e/file"),
    )
    extract_archive(archive, tmp_path / "x")
    assert (tmp_path / "x/d/up").read_text() == (tmp_path / "x/d/dir/file").read_text() == "text"
    assert (tmp_path / "x/d/hard").samefile(tmp_path / "x/d/e/file")


LEAVING = [
    [("../escaped", "x")],
    [("d/../../escaped", "x")],
    [("/tmp/espnet3.escaped", "x")],
    [("link", tarfile.SYMTYPE, "/tmp")],
    [("link", tarfile.SYMTYPE, "..")],
    [("d/link", tarfile.SYMTYPE, "../../escaped")],
    # Each alone looks as if it stayed inside.
    [("d/e/x", "x"), ("here", tarfile.SYMTYPE, "d/e"), ("out", tarfile.SYMTYPE, "here/../..")],
    [("link", tarfile.SYMTYPE, "d"), ("link/escaped", "x")],
    [("d/x", "x"), ("d", tarfile.SYMTYPE, ".")],
    [("link", tarfile.SYMTYPE, "file"), ("link", "x")],
    [("twice", "x"), ("./twice", "y")],
    [("file", "x"), ("file/below", "y")],
    [("pipe", tarfile.FIFOTYPE)],
]
TAR_ALONE = [
    [("device", tarfile.CHRTYPE)],
    [("device", tarfile.BLKTYPE)],
    [("hard", tarfile.LNKTYPE, "../escaped")],
    [("hard", tarfile.LNKTYPE, "/etc/passwd")],
    [("hard", tarfile.LNKTYPE, "hard")],
    [("link", tarfile.SYMTYPE, "x"), ("hard", tarfile.LNKTYPE, "link")],
]


@pytest.mark.parametrize("own_filter", [True, False])  # Python 3.11 has none before 3.11.4
@pytest.mark.parametrize(
    ("make", "members"),
    [(make_tar, m) for m in LEAVING + TAR_ALONE] + [(make_zip, m) for m in LEAVING],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_are_refused(tmp_path, monkeypatch, make, members, own_filter):
    if not own_filter:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    name = "a.tar" if make is make_tar else "a.zip"
    archive = make(tmp_path / name, ("fine", "x"), *members)
    place = tmp_path / "place"
    with pytest.raises(DataError, match=rf"{name}: '{members[-1][0]}' is refused") as error:
        extract_archive(archive, place / "x")
    assert str(archive) in str(error.value)
    assert left(place) == []
    assert not list(tmp_path.rglob("escaped"))
    assert not Path("/tmp/espnet3.escaped").exists()


def test_names_that_differ_by_case_are_two_files_where_the_file_system_has_that(tmp_path):
    archive = make_tar(tmp_path / "a.tar", ("A", "x"), ("a", "y"))
    extract_archive(archive, tmp_path / "x")
    assert tree(tmp_path / "x") == {"A": "x", "a": "y"}


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
@pytest.mark.parametrize("damage", ["cut", "half", "flipped", "empty", "garbage"])
def test_damaged_archives(tmp_path, suffix, damage):
    archive = tmp_path / f"a.{suffix}"
    text = "".join(f"{i} " for i in range(30_000))
    members = [("one", text), ("two", text[::-1])]
    if suffix == "zip":
        make_zip(archive, *members)
    else:
        make_tar(archive, *members, mode="w:" + suffix.removeprefix("tar").removeprefix("."))
    data = bytearray(archive.read_bytes())
    if damage == "flipped":
        middle = 512 + 512 * -(-len(text) // 512) if suffix == "tar" else len(data) // 2
        data[middle] ^= 0xFF  # of the second header, where nothing is compressed
    kept = {"cut": data[:-30], "half": data[: len(data) // 2], "empty": b"", "garbage": b"x" * 999}
    if suffix == "tar":  # the zeros at its end are more than it needs
        kept["cut"] = data[: 2 * (512 + 512 * -(-len(text) // 512))]
    archive.write_bytes(kept.get(damage, data))
    with pytest.raises(DataError, match=rf"a\.{suffix}.*damaged"):
        extract_archive(archive, tmp_path / "x/y")
    assert left(tmp_path / "x") == []


def test_what_is_done_is_left_alone_what_changed_is_not(tmp_path):
    archive, out = make_tar(tmp_path / "a.tar", ("one", "1")), tmp_path / "out"
    extract([archive], out)
    (out / "a/one").write_text("mine")
    extract([archive], out)
    assert tree(out / "a") == {"one": "mine"}
    extract([archive, make_tar(tmp_path / "b.tar", ("x", "x"))], out)
    assert tree(out / "a") == {"one": "mine"}
    os.utime(make_tar(archive, ("two", "2")), (1, 1))
    extract([archive], out)
    assert tree(out / "a") == {"two": "2"}


def test_a_directory_of_somebody_else_is_not_touched(tmp_path):
    archive = make_tar(tmp_path / "a.tar", ("one", "1"))
    (tmp_path / "out/a").mkdir(parents=True)
    (tmp_path / "out/a/mine").write_text("mine")
    with pytest.raises(RunFailed, match="out/a is there, and was not unpacked from"):
        extract([archive], tmp_path / "out")
    with pytest.raises(DataError, match="is there"):
        extract_archive(archive, tmp_path / "out/a")
    assert tree(tmp_path / "out/a") == {"mine": "mine"}


def test_a_directory_made_by_hand_after_a_failure_is_that_of_somebody_else(tmp_path):
    archive, by_hand = tmp_path / "a.tar", tmp_path / "out/a"
    archive.write_text("damaged")
    with pytest.raises(RunFailed):
        extract([archive], tmp_path / "out")
    by_hand.mkdir()
    (by_hand / "mine").write_text("mine")
    for _ in range(2):
        with pytest.raises(RunFailed, match="out/a is there, and was not unpacked from"):
            extract([archive], tmp_path / "out")
        make_tar(archive, ("one", "1"))  # a good one at last
    assert tree(by_hand) == {"mine": "mine"}


def test_archives_with_one_name_beginning_with_the_other_do_not_meet(tmp_path):
    at_work = tmp_path / "out/.v1.0.k2x_9abc.tmp/v1.0"  # of another worker
    at_work.mkdir(parents=True)
    killed = tmp_path / "out/.v1.k2x_9abc.tmp/v1"
    killed.mkdir(parents=True)
    extract_archive(make_tar(tmp_path / "v1.tar", ("one", "1")), tmp_path / "out/v1")
    assert at_work.exists()
    assert not killed.exists()


def test_two_processes_do_not_unpack_to_one_directory(tmp_path, monkeypatch):
    archive = make_tar(tmp_path / "a.tar", ("one", "1"), ("two", "2"))
    whole = module.members

    def meanwhile(*args):
        for member in whole(*args):
            code = (
                f"from {module.__name__} import extract_archive as e; e({str(archive)!r}, 'out/a')"
            )
            other = subprocess.run(
                [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
            )  # fmt: skip
            assert "is being written by another process" in other.stderr
            yield member

    monkeypatch.setattr(module, "members", meanwhile)
    extract_archive(archive, tmp_path / "out/a")
    assert tree(tmp_path / "out/a") == {"one": "1", "two": "2"}
    assert left(tmp_path / "out") == ["a"]


def test_a_failing_archive_is_named_and_the_others_are_unpacked(tmp_path):
    archives = [
        make_tar(tmp_path / "bad.tar", ("../x", "1")),
        make_tar(tmp_path / "good.tar", ("x", "1")),
        tmp_path / "lost.zip",
    ]
    with parallel_session({"env": "local", "n_workers": 2}), pytest.raises(RunFailed) as error:
        extract(archives, tmp_path / "out")
    assert [failure["utterance"] for failure in error.value.failures] == ["bad", "lost"]
    assert left(tmp_path / "out") == ["good", "run"]


@pytest.fixture
def small_bombs(monkeypatch):
    monkeypatch.setattr(archive_room, "HARMLESS", 10_000)


@pytest.mark.parametrize("make", [make_zip, partial(make_tar, mode="w:gz")])
def test_a_bomb_is_refused_and_allowed(tmp_path, small_bombs, make):
    name = "a.zip" if make is make_zip else "a.tar.gz"
    members = [("small", "1"), ("zeros", "0" * 1_000_000), ("more", "0" * 1_000_000)]
    archive = make(tmp_path / name, *members)
    with pytest.raises(RunFailed, match=r"only a bomb has; .*max_ratio=\d+ or more"):
        extract([archive], tmp_path / "out")
    assert left(tmp_path / "out") == ["run"]
    extract([archive], tmp_path / "out", max_ratio=1000)
    assert tree(tmp_path / "out/a") == dict(members)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_what_the_disk_has_no_room_for_is_refused(tmp_path, monkeypatch, name):
    members = [("first", "1"), ("second", "2" * 50_000)]
    make = make_zip if name == "a.zip" else partial(make_tar, mode="w:gz" if "gz" in name else "w")
    archive = make(tmp_path / name, *members)
    usage = shutil.disk_usage(tmp_path)._replace(free=40_000)
    monkeypatch.setattr(archive_room.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=f"the disk of {tmp_path} has room for"):
        extract_archive(archive, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_zip_that_lies_about_its_size(tmp_path):
    archive = make_zip(tmp_path / "a.zip", ("zeros", "0" * 100_000))
    told = archive.read_bytes().replace(struct.pack("<L", 100_000), struct.pack("<L", 10))
    archive.write_bytes(told)
    with pytest.raises(DataError, match="a.zip.*damaged"):
        extract_archive(archive, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_what_is_read_into_memory_is_no_bomb(tmp_path, make):
    if make is make_zip:
        link = ("link", tarfile.SYMTYPE, "0" * (2 << 20))
        archive, message = make(tmp_path / "a.zip", link), "no link is so long"
    else:
        archive, message = make(tmp_path / "a.tar", ("0" * (2 << 20), "content")), "damaged"
    with pytest.raises(DataError, match=message):
        extract_archive(archive, tmp_path / "a")


def test_a_stage_that_skips_does_not_skip_archives(tmp_path):
    good, lost = make_tar(tmp_path / "good.tar", ("x", "1")), tmp_path / "lost.zip"
    with parallel_session(run={"on_error": "skip", "resume": False}):
        with pytest.raises(RunFailed, match="lost"):
            extract([lost, good], tmp_path / "out")
        found = extract([lost, good], tmp_path / "out", skip_failed=True)
    assert found == [tmp_path / "out/good"]


def test_a_killed_driver_leaves_no_half_directory(tmp_path):
    big = tmp_path / "big.tar"
    with tarfile.open(big, "w") as archive:
        for i in range(200):
            info = tarfile.TarInfo(f"{i}")
            info.size = len(DATA)
            archive.addfile(info, io.BytesIO(DATA))
    out = tmp_path / "out"
    script = tmp_path / "driver.py"
    script.write_text(
        "import time\n"
        "from espnet3.components.data import extract\n"
        "members = extract.members\n"
        "def slow(*args):\n"
        "    for i, member in enumerate(members(*args)):\n"
        "        while i == 100: time.sleep(0.01)\n"
        "        yield member\n"
        "extract.members = slow\n"
        f"extract.extract([{str(big)!r}], {str(out)!r})\n"
    )
    kill_when(lambda: list(out.glob(".big.*.tmp/big/99")), script)
    assert not (out / "big").exists()
    extract([big], out)
    assert all((out / f"big/{i}").read_bytes() == DATA for i in range(200))
    assert left(out) == ["big", "run"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.rar"], "a.rar: not one of .tar, .tar.gz"),
        (["x/a.tar", "y/a.zip"], "would both be unpacked to a/"),
        (["run.tar"], "run.tar cannot be unpacked to"),
        ([".tar.gz"], "gz cannot be unpacked to|not one of"),
    ],
)
def test_archives_that_cannot_be_used(tmp_path, names, message):
    with pytest.raises(ConfigError, match=message):
        extract(names, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif("zst" in tarfile.TarFile.OPEN_METH, reason="this Python can")
def test_zstd_before_python_can(tmp_path):
    with pytest.raises(ConfigError, match=r"from 3\.14 on; here, run `zstd -d`"):
        extract(["a.tar.zst"], tmp_path)
