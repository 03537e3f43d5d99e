"""A web server for downloads: each connection has a bounded rate, and what is sent is counted."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PIECE = 1 << 16


class FileServer(ThreadingHTTPServer):
    """Serves ``/0`` to ``/<n - 1>``, with ETag and ranges.

    Args:
        n: files.
        size: bytes of each.
        rate: bytes per second of each connection.
        log: a file that gets the number of each file that is begun to be sent; None for none.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, n: int, size: int, rate: float, log: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies = [random.Random(i).randbytes(size) for i in range(n)]
        self.rate, self.log, self.sent = rate, log, 0
        self.counting = threading.Lock()

    def urls(self) -> list[str]:
        """One for each file."""
        return [f"http://127.0.0.1:{self.server_port}/{i}" for i in range(len(self.bodies))]

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that were killed."""


@contextmanager
def serving(n: int, size: int, rate: float, log: Path | None = None) -> Iterator[FileServer]:
    """A `FileServer` that runs for the length of a `with` block."""
    with FileServer(n, size, rate, log) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        number = int(self.path[1:])
        body, etag = self.server.bodies[number], f'"{number}"'
        asked = self.headers.get("Range") if self.headers.get("If-Range", etag) == etag else None
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if first and first >= len(body):
            self._head(416, 0, {"Content-Range": f"bytes */{len(body)}"})
            return
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        self._head(206 if asked else 200, len(body) - first, headers)
        if self.server.log is not None:
            with self.server.counting, self.server.log.open("a", encoding="ascii") as log:
                log.write(f"{number}\n")
        self._send(body, first)

    def _send(self, body: bytes, first: int) -> None:
        begin = time.monotonic()
        for at in range(first, len(body), PIECE):
            piece = body[at : at + PIECE]
            self.wfile.write(piece)
            with self.server.counting:
                self.server.sent += len(piece)
            due = begin + (at + len(piece) - first) / self.server.rate
            time.sleep(max(0.0, due - time.monotonic()))

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
