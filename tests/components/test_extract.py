"""Unpacking archives: what is made, what is refused, and that nothing is ever half there."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from espnet3.components.data.extract import MARKER, extract, extract_archive
from espnet3.errors import ConfigError, DataError, RunFailed
from espnet3.parallel.parallel import parallel_session, reset_parallel

FILES = {"corpus/a.txt": b"one\n", "corpus/sub/b.bin": bytes(range(256)) * 5000, "run.sh": b"#!\n"}


@pytest.fixture(autouse=True)
def _nothing_is_set() -> Iterator[None]:
    reset_parallel()
    yield
    reset_parallel()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **more: Any) -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    for key, value in more.items():
        setattr(info, key, value)
    return info


def pack(path: Path, *others: Any) -> Path:
    """An archive of `FILES` and of other tar members."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in FILES.items():
                archive.writestr(name, data)
            for info, data in others:
                archive.writestr(info, data)
        return path
    kind = {".gz": "gz", ".tgz": "gz", ".xz": "xz", ".bz2": "bz2"}.get(path.suffix, "")
    with tarfile.open(path, f"w:{kind}") as archive:
        archive.addfile(member("corpus", tarfile.DIRTYPE, mode=0o500))
        for name, data in FILES.items():
            mode = 0o755 if name.endswith(".sh") else 0o400
            archive.addfile(member(name, size=len(data), mode=mode), io.BytesIO(data))
        for info in others:
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return path


def tree(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes()
        for p in directory.rglob("*")
        if p.is_file() and p.name != MARKER
    }


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.bz2", "a.zip"])
def test_what_is_in_an_archive(name: str, tmp_path: Path) -> None:
    out = extract_archive(pack(tmp_path / name), tmp_path / "deep" / "out")
    assert out == tmp_path / "deep" / "out"
    assert tree(out) == FILES
    if name != "a.zip":
        assert stat.S_IMODE((out / "run.sh").stat().st_mode) & 0o111
    assert os.listdir(out.parent) == ["out"]


def test_links_inside_are_made(tmp_path: Path) -> None:
    archive = pack(
        tmp_path / "a.tar",
        member("corpus/link", tarfile.SYMTYPE, "sub/b.bin"),
        member("up", tarfile.SYMTYPE, "corpus/../run.sh"),
        member("hard", tarfile.LNKTYPE, "corpus/a.txt"),
    )
    out = extract_archive(archive, tmp_path / "out")
    assert (out / "corpus/link").read_bytes() == FILES["corpus/sub/b.bin"]
    assert (out / "up").read_bytes() == FILES["run.sh"]
    assert (out / "hard").read_bytes() == FILES["corpus/a.txt"]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([member("../evil", size=1)], "'../evil' would leave"),
        ([member("a/../../evil", size=1)], "would leave"),
        ([member("/evil", size=1)], "'/evil' would leave"),
        ([member("link", tarfile.SYMTYPE, "../secret")], "'link' links to '../secret', outside"),
        ([member("link", tarfile.SYMTYPE, "/etc/passwd")], "outside"),
        ([member("hard", tarfile.LNKTYPE, "../secret")], "would leave"),
        ([member("hard", tarfile.LNKTYPE, "nothing")], "links to no file"),
        ([member("fifo", tarfile.FIFOTYPE)], "'fifo' is a device"),
        ([member("null", tarfile.CHRTYPE, devmajor=1, devminor=3)], "'null' is a device"),
        # A link to the top, and one that goes up from where that leads.
        (
            [
                member("x/top", tarfile.SYMTYPE, ".."),
                member("x/l", tarfile.SYMTYPE, "top/../secret"),
            ],
            "outside",
        ),
        # A file or link that would be written through a link.
        ([member("s", tarfile.SYMTYPE, "corpus"), member("s/evil", size=1)], "'s' comes twice"),
        (
            [member("s", tarfile.SYMTYPE, "."), member("s/l", tarfile.SYMTYPE, "run.sh")],
            "'s/l' lies behind a link",
        ),
    ],
)  # fmt: skip
def test_what_would_leave_the_directory(members: Any, problem: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    archive = pack(tmp_path / "a.tar.gz", *members)
    with pytest.raises(DataError, match=problem) as caught:
        extract_archive(archive, tmp_path / "out")
    assert "a.tar.gz" in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["a.tar.gz", "secret"]


def test_zip_members_that_leave(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'\.\./evil' would leave"):
        extract_archive(pack(tmp_path / "a.zip", ("../evil", "x")), tmp_path / "out")
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(DataError, match="'link' links to '../../etc', outside"):
        extract_archive(pack(tmp_path / "b.zip", (link, "../../etc")), tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "b.zip"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip", "no.tar"])
def test_a_damaged_archive_leaves_nothing(name: str, tmp_path: Path) -> None:
    path = pack(tmp_path / name)
    data = path.read_bytes() if name != "no.tar" else b"no archive at all" * 50
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=f"{name}: "):
        extract_archive(path, tmp_path / "out")
    assert os.listdir(tmp_path) == [name]


def test_what_was_unpacked_is_kept_and_what_has_changed_is_replaced(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar")
    out = extract_archive(archive, tmp_path / "out")
    inode = (out / "run.sh").stat().st_ino
    extract_archive(archive, out)
    assert (out / "run.sh").stat().st_ino == inode
    pack(archive, member("new", size=3))
    extract_archive(archive, out)
    assert (out / "new").read_bytes() == b"xxx"

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(DataError, match="mine is there already, and was not unpacked here"):
        extract_archive(archive, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_many_archives(tmp_path: Path) -> None:
    archives = [pack(tmp_path / f"{i}.tar.gz") for i in range(4)]
    out = tmp_path / "out"
    good = archives[2].read_bytes()
    archives[2].write_bytes(good[:-2000])
    with pytest.raises(RunFailed, match="1 of 4") as caught:
        extract([*archives[:3], tmp_path / "3.tar.gz"], out)
    assert [f["utterance"] for f in caught.value.failures] == ["2"]
    assert "2.tar.gz" in caught.value.failures[0]["message"]
    archives[2].write_bytes(good)
    with parallel_session({"n_workers": 2}):
        made = extract(archives, out)
    assert made == [out / str(i) for i in range(4)]
    assert all(tree(directory) == FILES for directory in made)

    (made[1] / MARKER).unlink()
    (made[1] / "run.sh").unlink()
    with pytest.raises(RunFailed, match="was not unpacked here"):
        extract(archives, out)
    with pytest.raises(ConfigError, match="two archives would be unpacked into"):
        extract([tmp_path / "a.tar", tmp_path / "a.zip"], out)
