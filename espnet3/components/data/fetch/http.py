"""The body of one URL into one file that may hold the beginning of it already."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from espnet3.components.data.fetch.connections import Connections
from espnet3.errors import DataError
from espnet3.parallel.worker.unfinished import leave_if_draining, sleep
from espnet3.utils.masking import mask_url

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

logger = logging.getLogger(__name__)

PIECE = 1 << 16
PROGRESS = 1 << 20
"""An attempt that brought so many bytes more than any before begins the count of retries anew."""
LONGEST_WAIT = 600.0
"""Seconds; a server that asks to wait longer is not waited for."""
REDIRECTS = 10
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

_REASONS = {
    "ReadTimeoutError": "nothing came for too long",
    "ConnectTimeoutError": "no connection came about for too long",
    "ProtocolError": "the connection was cut",
    "IncompleteRead": "the connection was cut",
    "ResponseError": "too many redirects",
}
_RANGE = re.compile(r"bytes (?:(?P<first>\d+)-\d+|\*)/(?P<total>\d+|\*)")


@dataclass(frozen=True)
class Patience:
    """How often and how long to try.

    Attributes:
        retries: Attempts after the first one that are in a row without progress.
        backoff: Seconds before the second retry; doubled for each after it, up to 120.
        timeout: Seconds without a byte, or without a connection, after which an attempt is over.
    """

    retries: int = 5
    backoff: float = 1.0
    timeout: float = 60.0


@dataclass(frozen=True)
class Version:
    """What a server says by which the content of a URL can be told from a later one.

    Attributes:
        etag: A strong ETag, or "".
        modified: The Last-Modified date, or "".
    """

    etag: str = ""
    modified: str = ""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Version:
        """Read it from the headers of a response."""
        etag = headers.get("ETag", "")
        strong = "" if etag.startswith("W/") else etag
        return cls(strong, headers.get("Last-Modified", ""))

    @property
    def text(self) -> str:
        """What If-Range is given; "" if the server said nothing."""
        return self.etag or self.modified


class HttpFetch:
    """Brings the rest of a URL's body into a file.

    Args:
        url: With http or https. User and password in it are sent to its host and to no other.
        connections: Of this process.
        part: Open for reading and writing; what it holds counts as the beginning of the body.
        version: Of which the beginning in ``part`` is.
        checked: The content is checked afterwards, so it may be gone on with even where the server
            tells no version.
        begin: Called with the version before the first byte of a new body is written.
        patience: How often and how long to try.
    """

    def __init__(
        self,
        url: str,
        connections: Connections,
        part: BinaryIO,
        version: Version,
        begin: Callable[[Version], None],
        patience: Patience,
        *,
        checked: bool,
    ) -> None:
        self._shown = mask_url(url)
        self._pool, self._address, self._headers = connections.to(url)
        self._part, self._version, self._begin = part, version, begin
        self._patience, self._checked = patience, checked
        self.resumed = False
        """Whether bytes of an earlier attempt were gone on with."""

    def run(self) -> None:
        """Fetch until the body is whole; bytes that came stay in the file whatever happens.

        Raises:
            DataError: The server refuses, or the retries are used up.
            UnitUnfinished: The worker is told to drain.
        """
        from urllib3 import Retry
        from urllib3.exceptions import HTTPError, MaxRetryError

        patience = self._patience
        unused = retry = Retry(
            total=patience.retries, backoff_factor=patience.backoff, backoff_jitter=patience.backoff
        )
        furthest = self._size()
        with _unlogged():
            while True:
                response = error = None
                try:
                    problem, response = self._attempt()
                except HTTPError as caught:
                    error = caught
                    problem = _reason(error)
                if not problem:
                    return
                if self._size() >= furthest + PROGRESS:
                    furthest, retry = self._size(), unused
                if response is not None and _asked_to_wait(response) > LONGEST_WAIT:
                    raise DataError(f"{self._shown}: {problem}; it asks to be left alone for long")
                try:
                    retry = retry.increment("GET", "", response=response, error=error)
                except MaxRetryError:
                    break
                logger.warning("%s: %s; trying again", self._shown, problem)
                asked = 0.0 if response is None else _asked_to_wait(response)
                sleep(asked or retry.get_backoff_time())
        # Not while another is handled: urllib3 writes whole URLs into its messages.
        raise DataError(f"{self._shown}: {problem}; given up after {patience.retries} retries")

    def _attempt(self) -> tuple[str, BaseHTTPResponse | None]:
        """Ask once and write what comes; say why it is to be tried again, "" if it is whole."""
        from urllib3 import Retry

        offset = self._size()
        if offset and not (self._version.text or self._checked):
            offset = self._start_over()
        response = self._pool.request(
            "GET",
            self._address,
            headers=self._headers | self._range(offset),
            preload_content=False,
            decode_content=False,
            retries=Retry(total=None, connect=0, read=0, status=0, other=0, redirect=REDIRECTS),
        )
        try:
            problem = self._take(response, offset)
        finally:
            self._part.flush()
            response.close()
        return problem, response

    def _take(self, response: BaseHTTPResponse, offset: int) -> str:
        """Write a response's body where it belongs; say what is wrong with it, or ""."""
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == 416 and offset:
            if found and found["total"] == str(offset):
                self.resumed = True
                return ""
            self._start_over()
            return "the rest that was asked for is not there"
        if response.status == 206:
            version = Version.of(response.headers)
            other = version.text and self._version.text and version != self._version
            if not found or found["first"] != str(offset) or other:
                self._start_over()
                return "another part of the file came than was asked for"
            self.resumed = self.resumed or offset > 0
        elif response.status == 200:
            self._start_over()
            self._version = Version.of(response.headers)
            self._begin(self._version)
        else:
            problem = f"HTTP {response.status} {response.reason or ''}".strip()
            if response.status in TRY_AGAIN:
                return problem
            raise DataError(f"{self._shown}: {problem}")
        for piece in response.stream(PIECE, decode_content=False):
            self._part.write(piece)
            leave_if_draining()
        whole = not found or not found["total"].isdigit() or self._size() == int(found["total"])
        return "" if whole else "a part of the rest came, not all of it"

    def _range(self, offset: int) -> dict[str, str]:
        if not offset:
            return {}
        condition = {"If-Range": self._version.text} if self._version.text else {}
        return {"Range": f"bytes={offset}-"} | condition

    def _size(self) -> int:
        return self._part.seek(0, os.SEEK_END)

    def _start_over(self) -> int:
        self.resumed = False
        self._part.seek(0)
        return self._part.truncate()


def _reason(error: Exception) -> str:
    """What went wrong; not in urllib3's words, as some of them quote the URL."""
    inner = getattr(error, "reason", None)
    cause = inner if isinstance(inner, Exception) else error
    name = type(cause).__name__
    system = next((one for one in _behind(cause) if isinstance(one, OSError)), None)
    return _REASONS.get(name) or (f"{name} ({system})" if system else name)


def _behind(error: BaseException) -> Iterator[BaseException]:
    yield error
    yield from (arg for arg in error.args if isinstance(arg, Exception))
    behind = error.__cause__ or error.__context__
    if behind:
        yield from _behind(behind)


def _asked_to_wait(response: BaseHTTPResponse) -> float:
    """Seconds that a server asks to wait; 0 if it does not say, or not in a way that is known."""
    from urllib3 import Retry
    from urllib3.exceptions import InvalidHeader

    try:
        return Retry().get_retry_after(response) or 0.0
    except InvalidHeader:
        return 0.0


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep urllib3 from logging in this thread: it writes whole URLs, secrets and all."""
    here = threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != here

    talkative = ("poolmanager", "connectionpool", "connection", "util.retry")
    loggers = [logging.getLogger(f"urllib3.{name}") for name in talkative]
    for one in loggers:
        one.addFilter(others)
    try:
        yield
    finally:
        for one in loggers:
            one.removeFilter(others)
