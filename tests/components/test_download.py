"""Downloading from a server that has faults."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from espnet3.components.data.download import Target, download
from espnet3.components.data.fetch import Retries
from espnet3.errors import ConfigError, RunFailed
from espnet3.parallel.parallel import parallel_session, reset_parallel

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Retries(total=3, backoff=0.01, timeout=10)


@dataclass
class Site:
    """What the server does, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    etag: str = '"one"'
    ranges: bool = True
    cuts: int = 0
    """So many responses end in the middle of their bytes."""
    busy_after_a_cut: bool = False
    busy: int = 0
    """So many requests are answered by 503."""
    retry_after: str = "0"
    asked: list[tuple[str, str | None, float]] = field(default_factory=list)
    """Path, range and time of each request."""

    def ranges_asked(self) -> list[str | None]:
        return [wanted for _, wanted, _ in self.asked]


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.asked.append((self.path, wanted, time.monotonic()))
            if self.path.startswith("/gone"):
                self.send_error(404)
                return
            if site.busy > 0:
                site.busy -= 1
                self.send_response(503)
                self.send_header("Retry-After", site.retry_after)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first, body = 0, site.content
            if wanted and site.ranges and self.headers.get("If-Range") in (None, site.etag):
                first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
                if first >= len(body):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(body)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            body = body[first:]
            if site.etag:
                self.send_header("ETag", site.etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if site.cuts > 0:
                site.cuts -= 1
                site.busy = 100 if site.busy_after_a_cut else 0
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    reset_parallel()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def leftovers(out: Path) -> list[str]:
    return [p.name for p in out.rglob(".*") if "run" not in p.parts]


def test_many_files_and_a_second_call(site: Site, tmp_path: Path) -> None:
    targets = [Target(f"{site.url}/{i}", f"sub/{i}.bin", sha256=SHA256) for i in range(4)]
    paths = download([*targets, f"{site.url}/plain.tgz?token=1"], tmp_path, retries=QUICK)
    assert paths == [*(tmp_path / f"sub/{i}.bin" for i in range(4)), tmp_path / "plain.tgz"]
    assert all(path.read_bytes() == CONTENT for path in paths)
    assert leftovers(tmp_path) == []
    n_asked = len(site.asked)
    download([*targets, f"{site.url}/plain.tgz?token=1"], tmp_path, retries=QUICK)
    assert len(site.asked) == n_asked

    paths[1].unlink()
    download([*targets, f"{site.url}/5"], tmp_path, retries=QUICK)  # one is gone, one is new
    assert [path for path, _, _ in site.asked[n_asked:]] == ["/1", "/5"]


def test_on_workers(site: Site, tmp_path: Path) -> None:
    with parallel_session({"n_workers": 2}):
        paths = download([f"{site.url}/{i}" for i in range(6)], tmp_path, retries=QUICK)
    assert all(path.read_bytes() == CONTENT for path in paths)
    assert set(Counter(path for path, _, _ in site.asked).values()) == {1}


def test_a_cut_connection_is_gone_on_with(site: Site, tmp_path: Path) -> None:
    site.cuts = 2
    (path,) = download([f"{site.url}/a"], tmp_path, retries=QUICK)
    assert path.read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert site.ranges_asked() == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_a_later_call_goes_on_too_if_the_file_is_the_same(site: Site, tmp_path: Path) -> None:
    site.cuts, site.busy_after_a_cut = 1, True
    with pytest.raises(RunFailed, match="too many 503"):
        download([f"{site.url}/a"], tmp_path, retries=QUICK)
    site.busy = 0
    (path,) = download([f"{site.url}/a"], tmp_path, retries=QUICK)
    assert path.read_bytes() == CONTENT
    assert site.ranges_asked()[-1] == f"bytes={len(CONTENT) // 2}-"

    site.cuts = 1
    with pytest.raises(RunFailed, match="too many 503"):
        download([f"{site.url}/b"], tmp_path, retries=QUICK)
    site.busy, site.content, site.etag = 0, CONTENT[::-1], '"two"'
    (path,) = download([f"{site.url}/b"], tmp_path, retries=QUICK)
    assert path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("etag", ['"one"', ""])
def test_without_ranges_it_begins_anew(site: Site, tmp_path: Path, etag: str) -> None:
    site.ranges, site.cuts, site.etag = False, 2, etag
    (path,) = download([f"{site.url}/a"], tmp_path, retries=QUICK)
    assert path.read_bytes() == CONTENT
    site.cuts = 100
    with pytest.raises(RunFailed, match="b: cut off again and again"):
        download([f"{site.url}/b"], tmp_path, retries=QUICK)


def test_a_busy_server_is_given_the_time_that_it_asks_for(site: Site, tmp_path: Path) -> None:
    site.busy, site.retry_after = 1, "1"
    (path,) = download([f"{site.url}/a"], tmp_path, retries=QUICK)
    assert path.read_bytes() == CONTENT
    (_, _, first), (_, _, second) = site.asked
    assert second - first >= 1.0
    site.busy, site.retry_after = 100, "0"
    with pytest.raises(RunFailed, match="too many 503 error responses"):
        download([f"{site.url}/b"], tmp_path, retries=QUICK)


def test_what_fails_is_named_and_the_others_are_kept(site: Site, tmp_path: Path) -> None:
    targets = [
        Target(f"{site.url}/good", sha256=SHA256.upper(), size=len(CONTENT)),
        Target(f"{site.url}/gone"),
        Target(f"{site.url}/other", md5="0" * 32),
        Target(f"{site.url}/short", size=7),
    ]
    with pytest.raises(RunFailed, match="3 of 4") as caught:
        download(targets, tmp_path, retries=QUICK)
    failed = {entry["utterance"]: entry["message"] for entry in caught.value.failures}
    assert failed.keys() == {"gone", "other", "short"}
    assert f"{site.url}/gone: 404 Not Found" in failed["gone"]
    assert "its md5 is" in failed["other"]
    assert f"it has {len(CONTENT)} bytes, not 7" in failed["short"]
    assert [p.name for p in tmp_path.iterdir() if p.name != "run"] == ["good"]
    n_asked = Counter(path for path, _, _ in site.asked)
    with pytest.raises(RunFailed):
        download(targets, tmp_path, retries=QUICK)
    again = Counter(path for path, _, _ in site.asked) - n_asked
    assert set(again) == {"/gone", "/other", "/short"}


def test_a_password_is_not_told(site: Site, tmp_path: Path) -> None:
    url = site.url.replace("//", "//me:hunter222@")
    with pytest.raises(RunFailed) as caught:
        download([Target(f"{url}/gone")], tmp_path, retries=QUICK)
    assert "hunter222" not in str(caught.value)
    written = [p.read_text() for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert not any("hunter222" in text for text in written)


def test_files_of_this_machine(tmp_path: Path) -> None:
    source = tmp_path / "with space.bin"
    source.write_bytes(CONTENT)
    targets = [Target(str(source), "a", sha256=SHA256), Target(source.as_uri(), "b")]
    paths = download(targets, tmp_path / "out")
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    with pytest.raises(RunFailed, match=r"nowhere: cannot be read: No such file"):
        download([Target(str(tmp_path / "nowhere"), "c")], tmp_path / "out")


def test_what_is_there_and_wrong_is_fetched_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"something else")
    (path,) = download([Target(f"{site.url}/a", sha256=SHA256)], tmp_path, retries=QUICK)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (Target("http://x/a", "../a"), "none below the directory"),
        (Target("http://x/a", "/a"), "none below the directory"),
        (Target("http://x/"), "none below the directory"),
        (Target("http://x/a", md5="12"), "md5 is 32 hexadecimal digits"),
    ],
)
def test_targets_that_cannot_be(target: Target, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=problem):
        download([target], tmp_path)
    with pytest.raises(ConfigError, match="two targets have this path"):
        download(["http://x/a", "http://y/a"], tmp_path)
