"""Fetching one file: in parts if need be, and under its name only when it is whole and right."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet3.components.data.audio import import_extra
from espnet3.errors import DataError
from espnet3.utils.masking import mask_secrets

logger = logging.getLogger(__name__)

_CHUNK = 1 << 18
_BUSY = (408, 429, 500, 502, 503, 504)
_PARTIAL, _RANGE_NOT_SATISFIABLE = 206, 416


@dataclass(frozen=True)
class Retries:
    """How often a request is repeated.

    Attributes:
        total: How many times in a row without a single new byte.
        backoff: Seconds before the second repetition, doubled each time, two minutes at most. A
            server's ``Retry-After`` counts instead, where it sends one.
        timeout: Seconds to wait for a connection, and for the next bytes.
    """

    total: int = 5
    backoff: float = 1.0
    timeout: float = 60.0


def fetch(
    url: str, target: Path, checksums: Mapping[str, str], size: int | None, retries: Retries
) -> None:
    """Fetch one file, unless it is there with the right size and checksums.

    A file that is there without anything to check it by is kept: it got its name when it was whole.

    Args:
        url: ``http(s)://``, ``file://`` or a path.
        target: Its name.
        checksums: Hexadecimal digests by algorithm.
        size: Bytes, if known.
        retries: How patient to be.

    Raises:
        DataError: It could not be fetched, or is not what was announced; the message says why.
        ConfigError: urllib3 is not installed.
    """
    shown = str(mask_secrets(url))
    if target.is_file():
        problem = _problem(target, checksums, size)
        if problem is None:
            return
        logger.warning("%s is fetched again: %s", target, problem)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme in ("http", "https"):
        _Http(url, shown, part, bool(checksums), retries).get()
    elif scheme in ("", "file"):
        _copy(_local(url), target, part)
    else:
        raise DataError(f"{shown}: neither http(s)://, file:// nor a path")
    problem = _problem(part, checksums, size)
    if problem is not None:
        _forget(part)
        raise DataError(f"{shown}: {problem}; it was not kept")
    os.replace(part, target)
    _forget(part)


class _Http:
    """The requests for one file, with what is known of it so far."""

    def __init__(self, url: str, shown: str, part: Path, checked: bool, retries: Retries) -> None:
        self._url, self._shown, self._part = url, shown, part
        self._checked = checked  # a part may be gone on with, as the checksum would tell
        self._retries = retries
        self._urllib3 = import_extra("urllib3", "downloading")

    def get(self) -> None:
        """Repeat requests until all bytes are in the part file."""
        timeout = self._urllib3.Timeout(connect=self._retries.timeout, read=self._retries.timeout)
        retry = self._urllib3.Retry(
            total=self._retries.total,
            backoff_factor=self._retries.backoff,
            status_forcelist=_BUSY,
            respect_retry_after_header=True,
        )
        in_vain = 0
        with self._urllib3.PoolManager(retries=retry, timeout=timeout) as http:
            while True:
                before = _size(self._part)
                try:
                    if self._request(http):
                        return
                    in_vain += 1  # the part was of no use, and the next request begins anew
                except self._urllib3.exceptions.MaxRetryError as error:
                    raise DataError(f"{self._shown}: {_reason(error)}") from error
                except self._urllib3.exceptions.HTTPError as error:
                    in_vain = 0 if _size(self._part) > before else in_vain + 1
                    logger.info("%s: cut off after %d bytes", self._shown, _size(self._part))
                    if in_vain > self._retries.total:
                        raise DataError(
                            f"{self._shown}: cut off again and again: {error}"
                        ) from error
                if in_vain > self._retries.total:
                    raise DataError(f"{self._shown}: the server answers no request for the rest")
                time.sleep(min(120.0, self._retries.backoff * 2**in_vain / 2))

    def _request(self, http: Any) -> bool:
        """Ask for what is missing; whether the file is complete."""
        have, validator = self._resumable()
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if validator:
                headers["If-Range"] = validator
        response = http.request("GET", self._url, headers=headers, preload_content=False)
        try:
            if response.status == _RANGE_NOT_SATISFIABLE and have:
                total = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
                if total and int(total[1]) == have:
                    return True
                _forget(self._part)
                return False
            if response.status not in (200, _PARTIAL):
                raise DataError(f"{self._shown}: {response.status} {response.reason}")
            if response.status == _PARTIAL and not _begins_at(response, have):
                _forget(self._part)
                return False
            if response.status == 200:
                self._remember(response)
            with self._part.open("ab" if response.status == _PARTIAL else "wb") as file:
                for chunk in _chunks(response):
                    file.write(chunk)
            return True
        finally:
            response.close()

    def _resumable(self) -> tuple[int, str | None]:
        """How many bytes may be kept, and what tells the server which file they are of."""
        have = _size(self._part)
        try:
            known = json.loads(_notes(self._part).read_bytes())
        except (FileNotFoundError, ValueError):
            return 0, None
        validator = known.get("validator")
        if known.get("url") != self._url or not (validator or self._checked):
            return 0, None
        return have, validator

    def _remember(self, response: Any) -> None:
        etag = response.headers.get("ETag", "")
        strong = etag if not etag.startswith("W/") else ""
        notes = {"url": self._url, "validator": strong or response.headers.get("Last-Modified")}
        self._part.unlink(missing_ok=True)  # never bytes of one file with the notes of another
        _notes(self._part).write_text(json.dumps(notes), encoding="utf-8")


def _chunks(response: Any) -> Iterator[bytes]:
    yield from response.stream(_CHUNK, decode_content=False)


def _begins_at(response: Any, have: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _reason(error: Any) -> str:
    reason = error.reason
    return f"{type(reason).__name__}: {reason}" if reason is not None else str(error)


def _local(url: str) -> Path:
    if not url.startswith("file:"):
        return Path(url)
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise DataError(f"{url}: names another host; file:// is of this one")
    return Path(urllib.parse.unquote(parts.path))


def _copy(source: Path, target: Path, part: Path) -> None:
    if target.exists() and source.exists() and target.samefile(source):
        raise DataError(f"{source}: is the target itself, and not what was announced")
    try:
        shutil.copyfile(source, part)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise DataError(f"{source}: cannot be read: {error.strerror}") from error


def _problem(path: Path, checksums: Mapping[str, str], size: int | None) -> str | None:
    """Say in what a file is not what was announced."""
    there = path.stat().st_size
    if size is not None and there != size:
        return f"it has {there} bytes, not {size}"
    for kind, expected in checksums.items():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
        if found != expected:
            return f"its {kind} is {found}, not {expected}"
    return None


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
