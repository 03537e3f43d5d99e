"""Unpack archives, none of which can write outside of its directory."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from espnet3.components.data.fetch.archive_members import Member, members, readable, suffix_of
from espnet3.components.data.fetch.archive_room import MAX_RATIO, Room
from espnet3.components.data.fetch.part_file import opened_alone
from espnet3.components.data.fetch.restartable import RUN, Records, run_by_records
from espnet3.errors import ConfigError, DataError
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.engine.identity import stamp
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.utils import durable

logger = logging.getLogger(__name__)

STEP = "extract"


def extract(
    archives: Iterable[str | Path],
    out_dir: str | Path,
    *,
    max_ratio: float = MAX_RATIO,
    skip_failed: bool = False,
) -> list[Path]:
    """Unpack each archive into a directory of its own, as many at a time as there are workers.

    ``<anywhere>/train.tar.gz`` becomes ``<out_dir>/train/``. A directory gets its name when it is
    whole. One that this has made from the same archive (by size and time) is left alone; one made
    from an archive that has changed since is replaced.

    Args:
        archives: tar (also with gz, bz2, xz, and from Python 3.14 on zst) and zip.
        out_dir: Holds the directories, and the run in ``run/extract``.
        max_ratio: Content over archive, in bytes, beyond which one is taken for a bomb and refused
            if the content is more than a GiB.
        skip_failed: Do without archives that fail. ``on_error: skip`` of a config does not: a
            corpus with a hole looks like a whole one.

    Returns:
        The directories, in the order of the archives; without those that were left out.

    Raises:
        ConfigError: A format is not known, or two archives have one name; nothing was started.
        RunFailed: Archives failed; it names them and the members that were refused.
    """
    provider = ExtractProvider(archives, out_dir, max_ratio)
    runner = ExtractRunner(provider, output_dir=Path(out_dir) / RUN, shard_subdir=STEP)
    unpacked = provider.unpacked()
    names = list(provider.archives)
    done = run_by_records(runner, names, unpacked.is_recorded, skip_failed=skip_failed)
    return [Path(out_dir) / name for name in done]


def extract_archive(archive: str | Path, to: str | Path, *, max_ratio: float = MAX_RATIO) -> None:
    """Unpack one archive into a directory, which gets its name when it is whole.

    Refused are members that would be outside of it: absolute names, ``..``, links that lead out,
    and anything below a link; also devices and pipes, and two members of one name. Kept are
    content, times and who may execute; everything else is as for new files.

    Args:
        archive: tar or zip, see `extract`.
        to: Must not be there, or be empty.
        max_ratio: See `extract`.

    Raises:
        ConfigError: No format is known by the archive's name.
        DataError: A member is refused, the archive is damaged, has more in it than the disk has
            room for or than ``max_ratio`` allows, ``to`` is there, or another process is at it;
            nothing is left.
        OSError: The archive cannot be read, or the disk not be written.
    """
    archive, to = Path(archive), Path(to)
    suffix_of(archive)
    _check_free(to)
    to.parent.mkdir(parents=True, exist_ok=True)
    # Another process would take this one's directory for that of one that was killed.
    with opened_alone(to.with_name(f".{to.name}.lock"), patience=0), _temporary(to) as directory:
        unpacking = _Unpacking(archive, directory, Room(archive, directory, max_ratio))
        for member in members(archive, directory):
            with readable(f"{archive}: {member.name!r}"):
                unpacking.put(member)
        durable.fsync_tree(directory)
        directory.rename(to)
    durable.fsync_path(to.parent)


class ExtractProvider(EnvironmentProvider):
    """Gives `ExtractRunner` the archives.

    Args:
        archives: As for `extract`.
        out_dir: Holds the directories.
        max_ratio: As for `extract`.

    Raises:
        ConfigError: As for `extract`.
    """

    def __init__(
        self, archives: Iterable[str | Path], out_dir: str | Path, max_ratio: float = MAX_RATIO
    ) -> None:
        super().__init__()
        self.archives: dict[str, Path] = {}
        """By the name of their directory."""
        for archive in map(Path, archives):
            name = archive.name.removesuffix(suffix_of(archive))
            other = self.archives.setdefault(name, archive.absolute())
            if name in (RUN, "", ".", ".."):
                raise ConfigError(f"{archive} cannot be unpacked to {out_dir}/{name}; rename it")
            if other != archive.absolute():
                raise ConfigError(f"{other} and {archive} would both be unpacked to {name}/")
        self._out_dir, self._max_ratio = Path(out_dir).absolute(), max_ratio

    def build_env_local(self) -> dict[str, Any]:
        """Build ``unpacked``, which unpacks by name."""
        return {"unpacked": self.unpacked()}

    def unpacked(self) -> UnpackedArchives:
        """Give what unpacks an archive, or tells whether it is unpacked."""
        return UnpackedArchives(self.archives, self._out_dir, self._max_ratio)


class ExtractRunner(BaseRunner):
    """Unpacks archives, each named by its directory; results are the names."""

    @staticmethod
    def forward(idx: str, unpacked: UnpackedArchives) -> str:
        """Unpack one archive if that is not done."""
        unpacked.unpack(idx)
        return idx

    def identity(self) -> dict[str, Any]:
        """Name the runner, and the archives by size and time."""
        stamps = {name: stamp(path) for name, path in self.provider.archives.items()}
        return {**super().identity(), "archives": stamps}


class UnpackedArchives:
    """Archives and their directories: which are whole, and how the others become so.

    Args:
        archives: By the name of their directory.
        out_dir: Absolute.
        max_ratio: As for `extract`.
    """

    def __init__(self, archives: dict[str, Path], out_dir: Path, max_ratio: float) -> None:
        self.out_dir = out_dir
        self._archives, self._max_ratio = archives, max_ratio
        self._records = Records(out_dir / RUN / "extracted")

    def is_recorded(self, name: str) -> bool:
        """Tell whether an archive's directory was made from it as it is now."""
        made_from = self._records.read(name).get("archive")
        same = made_from == stamp(self._archives[name])
        return same and made_from != "" and (self.out_dir / name).is_dir()

    def unpack(self, name: str) -> None:
        """Make sure that an archive is unpacked.

        Raises:
            DataError: As for `extract_archive`; also if the directory is there and not from here.
        """
        if self.is_recorded(name):
            return
        archive, to = self._archives[name], self.out_dir / name
        made_from = stamp(archive)
        if not made_from:
            raise DataError(f"{archive} is not there")
        if self._records.read(name):
            shutil.rmtree(to, ignore_errors=True)
        _check_free(to)
        # Before the directory is there: half of one never has the name.
        self._records.write(name, {"archive": made_from})
        logger.info("unpacking %s to %s", archive, to)
        try:
            extract_archive(archive, to, max_ratio=self._max_ratio)
        except BaseException:  # whoever unpacks it by hand then has a directory of their own
            self._records.remove(name)
            raise


class _Unpacking:
    """Puts members of one archive into a directory that nobody else writes."""

    def __init__(self, archive: Path, directory: Path, room: Room) -> None:
        self._archive, self._directory, self._room = archive, directory, room
        self._made: dict[PurePosixPath, str] = {PurePosixPath("."): "directory"}

    def put(self, member: Member) -> None:
        """Put one member where it belongs.

        Raises:
            DataError: It is refused.
        """
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\0" in member.name:
            self._refuse(member, "it would be outside of the directory")
        if member.kind == "directory":
            self._make_directory(member, path)
            return
        self._make_directory(member, path.parent)
        if path in self._made:
            self._refuse(member, "there are two of this name")
        at = self._directory / path
        try:
            self._make(member, path, at)
        except FileExistsError:
            self._refuse(member, "this file system takes its name for that of another member")
        self._made[path] = member.kind

    def _make(self, member: Member, path: PurePosixPath, at: Path) -> None:
        if member.kind == "symlink":
            if not _stays_inside(path, member.target):
                self._refuse(member, f"it is a link to {member.target!r}, out of the directory")
            at.symlink_to(member.target)
        elif member.kind == "hardlink":
            source = PurePosixPath(member.target)
            if self._made.get(source) not in ("file", "hardlink"):
                self._refuse(member, f"it is a link to {member.target!r}, no file before it")
            os.link(self._directory / source, at)
        elif member.content is None:
            self._refuse(member, "it is a device, a pipe or something else that is no data")
        else:
            self._room.take(member.size, member.name)
            with at.open("xb") as file:
                shutil.copyfileobj(member.content, file, 1 << 20)
            if member.executable:
                at.chmod(at.stat().st_mode | 0o100)
            if member.mtime is not None:
                with suppress(OverflowError, OSError):  # a year that the file system has not
                    os.utime(at, (member.mtime, member.mtime))

    def _make_directory(self, member: Member, path: PurePosixPath) -> None:
        if self._made.get(path) == "directory":
            return
        for part in [*reversed(path.parents), path]:
            kind = self._made.get(part)
            if kind is None:
                try:
                    (self._directory / part).mkdir()
                except FileExistsError:
                    self._refuse(member, f"this file system takes {part} for another member")
                self._made[part] = "directory"
            elif kind != "directory":
                self._refuse(member, f"{part} is no directory but a {kind} before it")

    def _refuse(self, member: Member, why: str) -> None:
        raise DataError(f"{self._archive}: {member.name!r} is refused: {why}")


def _stays_inside(link: PurePosixPath, target: str) -> bool:
    """Whether a symbolic link leads to something in its tree.

    Nothing is ever put below a link, so its `..` count from where it stands; after a name they
    would count from wherever that leads.
    """
    parts = PurePosixPath(target).parts
    ups = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    leads_up = ups > len(link.parent.parts) or ".." in parts[ups:]
    return not leads_up and not PurePosixPath(target).is_absolute() and "\0" not in target


def _check_free(to: Path) -> None:
    if os.path.lexists(to) and not (to.is_dir() and not any(to.iterdir())):
        raise DataError(f"{to} is there, and was not unpacked from this archive; move it away")


@contextmanager
def _temporary(to: Path) -> Iterator[Path]:
    """A directory beside ``to``; it is gone at the end unless it was renamed."""
    prefix = f".{to.name}."
    # Of a process that was killed; that of an archive `<name>.1` is not one of `<name>`.
    of_this = re.compile(rf"{re.escape(prefix)}[^.]+\.tmp")
    for leftover in to.parent.iterdir():
        if of_this.fullmatch(leftover.name):
            shutil.rmtree(leftover, ignore_errors=True)
    private = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=to.parent))
    try:
        directory = private / to.name
        directory.mkdir()
        yield directory
    finally:
        shutil.rmtree(private, ignore_errors=True)
