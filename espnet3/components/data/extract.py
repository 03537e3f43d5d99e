"""Unpacking archives: whole or not at all, and nothing outside the directory."""

from __future__ import annotations

import json
import lzma
import os
import posixpath
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from espnet3.components.data.file_runs import ResultGone, run_over_files
from espnet3.errors import ConfigError, DataError
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.engine import durable
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.results import read_results

STEP = "extract"
MARKER = ".extracted.json"
"""In every directory that was made here: from which archive."""

_SUFFIX = re.compile(r"\.(tar(\.(gz|xz|bz2|zst))?|tgz|txz|tbz2?|zip)$", re.IGNORECASE)
_DAMAGED: tuple[type[Exception], ...] = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, RuntimeError, OSError),
)


class _Member(NamedTuple):
    """An entry of an archive; `link` is the target of a link, `content` opens a file."""

    name: str
    kind: str
    size: int = 0
    mode: int = 0o644
    link: str = ""
    content: Any = None


def extract_archive(archive: str | os.PathLike[str], directory: str | os.PathLike[str]) -> Path:
    """Unpack one archive, tar (plain, gz, xz, bz2; zst from Python 3.14 on) or zip.

    It is unpacked beside `directory`, which gets its name when all is there. A directory that was
    unpacked from this archive before (by size and time) is left as it is, one from another archive
    is replaced. Owners are not restored, and of the permissions only whether a file is executable.

    Args:
        archive: The file.
        directory: Where to; made. One that is there and was not made here is refused.

    Returns:
        The directory.

    Raises:
        DataError: The archive cannot be read or is cut short; a member would lie outside the
            directory, is a link to outside, or neither file, directory nor link; or `directory`
            is somebody's own. Nothing was changed.
    """
    source, target = Path(archive), Path(directory)
    try:
        found = source.stat()
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror}") from error
    made_of = {"archive": source.name, "size": found.st_size, "mtime_ns": found.st_mtime_ns}
    if target.exists() and _is_made_of(target, made_of):
        return target
    temporary = target.with_name(f".{target.name}.extracting")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _unpack(source, temporary)
        (temporary / MARKER).write_text(json.dumps(made_of) + "\n", encoding="utf-8")
        durable.fsync_tree(temporary)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    durable.fsync_path(target.parent)
    return target


def extract(
    archives: Iterable[str | os.PathLike[str]], out_dir: str | os.PathLike[str]
) -> list[Path]:
    """Unpack archives, each into a directory with its name (less ``.tar.gz`` and the like).

    It runs where `set_parallel` or a session says; a worker unpacks one archive at a time.

    Args:
        archives: The files.
        out_dir: Gets the directories, and the run in ``run/extract``.

    Returns:
        The directories, in the order of the archives.

    Raises:
        ConfigError: Two archives would be unpacked into the same directory.
        RunFailed: Some could not be unpacked; the others are there.
    """
    out, given = Path(out_dir).absolute(), [os.path.abspath(archive) for archive in archives]
    names = [_SUFFIX.sub("", os.path.basename(path)) for path in given]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"two archives would be unpacked into {out / twice}")
    provider = ExtractProvider(out)
    runner = ExtractRunner(provider, output_dir=out / "run", shard_subdir=STEP)
    # What an archive is, by size and time, is part of the item: a changed one is unpacked again.
    run_over_files(runner, [[n, path, _stamp(path)] for n, path in zip(names, given, strict=True)])
    return [out / name for name in names]


class ExtractProvider(EnvironmentProvider):
    """Tells `ExtractRunner` where directories go."""

    def __init__(self, out_dir: str | os.PathLike[str]) -> None:
        super().__init__({"output_dir": str(Path(out_dir).absolute())})

    def build_env_local(self) -> dict[str, Any]:
        """Return ``out_dir`` (absolute)."""
        return {"out_dir": Path(self.config["output_dir"])}


class ExtractRunner(BaseRunner):
    """Unpacks ``[directory, archive, stamp]`` items; see `extract`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name_of = lambda item: str(item[0])

    @staticmethod
    def forward(idx: Sequence[Any], out_dir: Path) -> str:
        """Unpack one archive."""
        name, archive, _ = idx
        extract_archive(archive, out_dir / name)
        return str(name)

    def merge(self, shard_dirs: list[Path]) -> list[str]:
        """Return the names of the directories.

        Raises:
            ResultGone: One is not there any more.
        """
        names: list[str] = read_results(shard_dirs)
        for name in names:
            directory = Path(self.provider.config["output_dir"]) / name
            if not (directory / MARKER).is_file():
                raise ResultGone(f"{directory} was unpacked, and is gone")
        return names


def _stamp(path: str) -> list[int]:
    try:
        found = os.stat(path)
    except OSError:
        return []  # the worker says what is wrong
    return [found.st_size, found.st_mtime_ns]


def _is_made_of(target: Path, made_of: dict[str, Any]) -> bool:
    try:
        return bool(json.loads((target / MARKER).read_bytes()) == made_of)
    except (OSError, ValueError) as error:
        if target.is_dir() and not any(target.iterdir()):
            return False
        raise DataError(
            f"{target} is there already, and was not unpacked here; move it away"
        ) from error


def _unpack(source: Path, directory: Path) -> None:
    # Links come last, so that nothing is ever written through one.
    links: list[_Member] = []
    try:
        for member in _members(source):
            _check_inside(source, member.name, member.name)
            path = directory / member.name
            if member.kind == "directory":
                path.mkdir(parents=True, exist_ok=True)
            elif member.kind == "file":
                _write(source, member, path)
            elif member.kind in ("symbolic link", "hard link"):
                links.append(member)
            else:
                raise DataError(f"{source}: {member.name!r} is a {member.kind}, no file")
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault
        raise DataError(f"{source}: no archive that can be read, or damaged: {error}") from error
    links.sort(key=lambda link: link.kind)  # hard links first
    for member in links:
        _link(source, member, directory)
    root = os.path.join(os.path.realpath(directory), "")
    for member in links:  # one link may lead over another
        if not os.path.join(os.path.realpath(directory / member.name), "").startswith(root):
            raise DataError(f"{source}: {member.name!r} links to {member.link!r}, outside")


def _members(source: Path) -> Iterator[_Member]:
    try:
        tar = tarfile.open(source)  # noqa: SIM115
    except tarfile.ReadError:
        if not zipfile.is_zipfile(source):
            raise
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                yield _zip_member(archive, info)
        return
    with tar:
        for entry in tar:
            kind = _tar_kind(entry)
            content = tar.extractfile(entry) if kind == "file" else None
            yield _Member(entry.name, kind, entry.size, entry.mode, entry.linkname, content)


def _tar_kind(entry: tarfile.TarInfo) -> str:
    kinds = {"file": entry.isfile(), "directory": entry.isdir(), "symbolic link": entry.issym()}
    kinds |= {"hard link": entry.islnk(), "device": entry.isdev()}
    return next((kind for kind, is_it in kinds.items() if is_it), "special file")


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    if info.is_dir():
        return _Member(info.filename, "directory")
    if stat.S_ISLNK(mode):
        return _Member(info.filename, "symbolic link", link=os.fsdecode(archive.read(info)))
    return _Member(info.filename, "file", info.file_size, mode, content=archive.open(info))


def _check_inside(source: Path, path: str, member: str) -> None:
    """Refuse what leaves the directory, by its text alone: no link is there to follow yet."""
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "\\")) or ".." in parts or "\0" in path:
        raise DataError(f"{source}: {member!r} would leave the directory")


def _folders(member: _Member) -> tuple[str, ...]:
    return Path(member.name).parts[:-1]


def _write(source: Path, member: _Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content: IO[bytes] = member.content
    with content, path.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
        if file.tell() != member.size:
            raise DataError(f"{source}: {member.name!r} is cut short")
    if member.mode & 0o100:
        path.chmod(path.stat().st_mode | 0o111)


def _link(source: Path, member: _Member, directory: Path) -> None:
    path = directory / member.name
    if os.path.realpath(path.parent) != os.path.join(
        os.path.realpath(directory), *_folders(member)
    ):
        raise DataError(f"{source}: {member.name!r} lies behind a link")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() or path.is_symlink():
        raise DataError(f"{source}: {member.name!r} comes twice")
    if member.kind == "hard link":
        _check_inside(source, member.link, member.name)
        linked = directory / member.link
        if not linked.is_file() or linked.is_symlink():
            raise DataError(f"{source}: {member.name!r} links to no file: {member.link!r}")
        os.link(linked, path)
        return
    inside = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.link))
    if member.link.startswith("/") or inside.split("/")[0] == "..":
        raise DataError(f"{source}: {member.name!r} links to {member.link!r}, outside")
    path.symlink_to(member.link)
