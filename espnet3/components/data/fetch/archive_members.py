"""Members of tar and zip archives in one form, read from the first to the last."""

from __future__ import annotations

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from espnet3.errors import ConfigError, DataError

TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
ZSTD = (".tar.zst", ".tzst")
ZIP = (".zip",)

LONGEST_HEADER = 1 << 20
"""Bytes of what is read into memory beside the contents of files."""

_DESCRIPTIONS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip

Kind = Literal["file", "directory", "symlink", "hardlink", "other"]

_BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    Attributes:
        name: As the archive has it.
        kind: ``other`` are devices, pipes and whatever else is no data.
        content: Of a file; read it before the next member is asked for.
        size: Bytes of it; it gives no more.
        target: Of a link.
        executable: Whether its owner may execute it.
        mtime: When it was modified, in seconds since 1970; None if that is not known.
    """

    name: str
    kind: Kind
    content: IO[bytes] | None = None
    size: int = 0
    target: str = ""
    executable: bool = False
    mtime: float | None = None


def suffix_of(archive: Path) -> str:
    """Return the part of an archive's name that tells its format.

    Raises:
        ConfigError: It is none that can be unpacked here.
    """
    known = [s for s in TAR + ZSTD + ZIP if archive.name.lower().endswith(s) and archive.stem]
    if not known:
        raise ConfigError(f"{archive}: not one of {', '.join(TAR + ZSTD + ZIP)}")
    suffix = max(known, key=len)
    if suffix in ZSTD and "zst" not in tarfile.TarFile.OPEN_METH:
        raise ConfigError(
            f"{archive}: Python unpacks zstd from 3.14 on; here, run `zstd -d` on it first"
        )
    return archive.name[-len(suffix) :]


def members(archive: Path, inside: Path) -> Iterator[Member]:
    """Read an archive.

    Args:
        archive: With one of the names above.
        inside: The directory that members are to be put in; Python's own filter is asked too.

    Raises:
        ConfigError: No format is known by its name.
        DataError: It is damaged, encrypted, or refused by Python's filter.
        OSError: It cannot be read.
    """
    with readable(str(archive)):
        if suffix_of(archive).lower() in ZIP:
            yield from _of_zip(archive)
        else:
            yield from _of_tar(archive, inside)


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn what is raised while damaged archives are read into DataError.

    Args:
        what: Is read: the archive, and the member if that is known.
    """
    try:
        yield
    except _BROKEN as error:
        raise DataError(f"{what}: damaged, or cut short: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"{what}: damaged: {error}") from error  # bz2 and gzip say it so


class _StrictTarInfo(tarfile.TarInfo):
    """Does not take a damaged header, or the end of the file, for the end of the archive.

    What describes the next member (its long name, its times) is read into memory, so a long one
    is taken for damaged, too.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictTarInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _DESCRIPTIONS and info.size > LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {info.size} bytes")
        return info

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _StrictTarInfo:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":
                raise
            raise tarfile.ReadError(str(error)) from error


def _of_tar(archive: Path, inside: Path) -> Iterator[Member]:
    with tarfile.open(archive, tarinfo=_StrictTarInfo) as tar:
        for info in tar:
            if not info.isreg():  # a plain file is put below plain directories alone
                _ask_filter(archive, info, inside)
            executable = bool((info.mode or 0) & stat.S_IXUSR)
            if info.isreg():
                content = tar.extractfile(info)
                yield Member(info.name, "file", content, info.size, "", executable, info.mtime)
            elif info.isdir():
                yield Member(info.name, "directory")
            elif info.issym() or info.islnk():
                kind: Kind = "symlink" if info.issym() else "hardlink"
                yield Member(info.name, kind, target=info.linkname)
            else:
                yield Member(info.name, "other")
        # The checksum of what is compressed stands at its end.
        while tar.fileobj and tar.fileobj.read(1 << 20):
            pass


def _ask_filter(archive: Path, info: tarfile.TarInfo, inside: Path) -> None:
    # Python 3.11 has no filters before 3.11.4.
    data_filter = getattr(tarfile, "data_filter", None)
    if data_filter is None:
        return
    try:
        data_filter(info, str(inside))
    except tarfile.FilterError as error:
        raise DataError(f"{archive}: {info.name!r} is refused: {error}") from error


def _of_zip(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as whole:
        for info in whole.infolist():
            mode = info.external_attr >> 16
            kind = stat.S_IFMT(mode)
            if info.flag_bits & 1:
                raise DataError(f"{archive}: {info.filename!r} is encrypted")
            if info.is_dir():
                yield Member(info.filename, "directory")
            elif stat.S_ISLNK(mode):
                if info.file_size > LONGEST_HEADER:
                    raise DataError(f"{archive}: {info.filename!r} is refused: no link is so long")
                target = whole.read(info).decode("utf-8", "surrogateescape")
                yield Member(info.filename, "symlink", target=target)
            elif kind not in (0, stat.S_IFREG):
                yield Member(info.filename, "other")
            else:
                with whole.open(info) as content:
                    executable = bool(mode & stat.S_IXUSR)
                    yield Member(info.filename, "file", content, info.file_size, "", executable)


def declared_size(archive: Path) -> int:
    """Bytes of the files in a zip, as its directory tells them; of a tar, what is known at once.

    Raises:
        DataError: It is damaged.
        OSError: It cannot be read.
    """
    suffix = suffix_of(archive).lower()
    if suffix in ZIP:
        with readable(str(archive)), zipfile.ZipFile(archive) as whole:
            return sum(info.file_size for info in whole.infolist())
    return archive.stat().st_size if suffix == TAR[0] else 0
