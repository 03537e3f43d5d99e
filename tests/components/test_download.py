"""Downloads from a server with the faults that real ones have, and from files."""

import hashlib
import json
import logging
import os
import random
import signal
import sys
import time

import pytest

from espnet3.components.data.download import download
from espnet3.errors import ConfigError, RunFailed
from espnet3.parallel.parallel import parallel_session

from ..parallel.drivers import await_that, driver_of, kill_when
from .web_site import serving

BODY = random.Random(0).randbytes(300_000)
NEW = random.Random(1).randbytes(300_000)


@pytest.fixture
def site():
    with serving() as site:
        site.files["/a.bin"] = BODY
        site.etags["/a.bin"] = '"one"'
        yield site


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def target(site, path="a.bin", **more):
    return {"url": site.url(f"/{path}"), "path": path, **more}


def fetch(site, out, **more):
    """Download `a.bin`, without waiting between retries."""
    options = {key: more.pop(key) for key in ("retries", "timeout") if key in more}
    return download([target(site, **more)], out, backoff=0, **options)


def failures(error):
    return {failure["utterance"]: failure["message"] for failure in error.value.failures}


def written(out):
    """All text that a run has left, by file."""
    return {p: p.read_text() for p in (out / "run").rglob("*") if p.is_file()}


# what is fetched


def test_files_are_there_and_named_in_order(site, tmp_path):
    site.files["/b.bin"] = NEW
    targets = [
        target(site, sha256=sha256(BODY), md5=hashlib.md5(BODY).hexdigest(), size=len(BODY)),
        {"url": site.url("/b.bin"), "path": "deep/er/b"},
    ]
    files = download(targets, tmp_path)
    assert files == [tmp_path / "a.bin", tmp_path / "deep/er/b"]
    assert [file.read_bytes() for file in files] == [BODY, NEW]
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("as_url", [True, False])
def test_files_on_this_machine_are_copied(tmp_path, as_url, monkeypatch):
    source = tmp_path / "a file#1%20.bin"
    source.write_bytes(BODY)
    monkeypatch.chdir(tmp_path)
    url = source.as_uri() if as_url else source.name
    targets = [{"url": url, "path": "x", "sha256": sha256(BODY)}]
    targets.append({"url": "not/there", "path": "y"})
    with pytest.raises(RunFailed) as error:
        download(targets, tmp_path / "out")
    assert "not/there: No such file" in failures(error)["y"]
    assert (tmp_path / "out/x").read_bytes() == BODY


def test_workers_fetch_at_the_same_time(site, tmp_path):
    site.files |= {f"/{i}": f"{i}".encode() * 1000 for i in range(6)}
    with parallel_session({"env": "local", "n_workers": 2}):
        files = download([target(site, f"{i}") for i in range(6)], tmp_path)
    assert [file.read_bytes() for file in files] == [site.files[f"/{i}"] for i in range(6)]


def test_a_failing_file_is_named_and_the_others_are_kept(site, tmp_path):
    targets = [target(site, "lost.bin"), target(site), target(site, "wrong", sha256="0" * 64)]
    site.files["/wrong"] = b"content"
    with pytest.raises(RunFailed) as error:
        download(targets, tmp_path)
    assert list(failures(error)) == ["lost.bin", "wrong"]
    assert "HTTP 404" in failures(error)["lost.bin"]
    assert f"its sha256 is {sha256(b'content')}, not 000" in failures(error)["wrong"]
    assert "runner" not in str(error.value)  # which the caller does not have
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.bin"]
    site.files["/lost.bin"], site.asked[:] = NEW, []
    files = download(targets, tmp_path, skip_failed=True)
    assert files == [tmp_path / "lost.bin", tmp_path / "a.bin"]
    assert [path for path, _ in site.asked] == ["/lost.bin", "/wrong"]


def test_what_a_stage_skips_is_no_download(site, tmp_path):
    with parallel_session(run={"on_error": "skip"}), pytest.raises(RunFailed) as error:
        download([target(site, "lost.bin"), target(site)], tmp_path)
    assert list(failures(error)) == ["lost.bin"]
    assert "`skip_failed=True` (in this call)" in str(error.value)
    assert "on_error" not in str(error.value)


def test_a_stage_that_starts_over_does_not_download_again(site, tmp_path):
    site.files["/b.bin"] = NEW
    download([target(site)], tmp_path)
    with parallel_session(run={"resume": False}):
        download([target(site), target(site, "b.bin")], tmp_path)
        with pytest.raises(RunFailed) as error:
            download([target(site, "lost.bin")], tmp_path)
    assert [path for path, _ in site.asked] == ["/a.bin", "/b.bin", "/lost.bin"]
    assert "Run the same again to retry" in str(error.value)  # not: without `resume: false`


def test_one_connection_does_for_all_files_of_a_server(site, tmp_path):
    site.files |= {f"/{i}": b"content" for i in range(5)}
    download([target(site, f"{i}") for i in range(5)], tmp_path)
    assert site.n_connections == 1


# what is there already


@pytest.mark.parametrize("known", [{}, {"size": len(BODY)}, {"sha256": sha256(BODY)}])
def test_a_second_call_asks_for_nothing(site, tmp_path, known):
    fetch(site, tmp_path, **known)
    site.asked.clear()
    assert fetch(site, tmp_path, **known) == [tmp_path / "a.bin"]
    site.files["/b.bin"] = NEW
    download([target(site, **known), target(site, "b.bin")], tmp_path)
    assert [path for path, _ in site.asked] == ["/b.bin"]


@pytest.mark.parametrize(
    ("content", "known", "fetched"),
    [
        (BODY, {"sha256": sha256(BODY)}, False),
        (BODY, {"size": len(BODY)}, False),
        (BODY, {"size": len(BODY), "md5": "0" * 32}, True),
        (NEW, {"sha256": sha256(BODY)}, True),
        (NEW[1:], {"size": len(BODY)}, True),
        (BODY, {}, True),  # nobody knows whether it is whole
    ],
)
def test_a_file_that_somebody_put_there(site, tmp_path, content, known, fetched):
    (tmp_path / "a.bin").write_bytes(content)
    if "md5" in known:
        with pytest.raises(RunFailed):
            fetch(site, tmp_path, **known)
    else:
        fetch(site, tmp_path, **known)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert bool(site.asked) == fetched


@pytest.mark.parametrize("damage", ["removed", "cut", "changed", "touched"])
def test_what_changed_since_is_fetched_again(site, tmp_path, damage):
    (file,) = fetch(site, tmp_path, sha256=sha256(BODY))
    site.asked.clear()
    if damage == "removed":
        file.unlink()
    elif damage == "cut":
        os.truncate(file, 1000)
    elif damage == "changed":
        file.write_bytes(NEW)
    os.utime(file, ns=(1, 1)) if file.exists() else None
    if damage == "touched":  # its content decides
        assert fetch(site, tmp_path, sha256=sha256(BODY)) == [file]
        assert site.asked == []
    else:
        assert fetch(site, tmp_path, sha256=sha256(BODY)) == [file]
        assert len(site.asked) == 1
    assert file.read_bytes() == BODY


def test_another_url_or_checksum_for_a_path_is_noticed(site, tmp_path):
    fetch(site, tmp_path)
    site.files["/b.bin"] = NEW
    download([{"url": site.url("/b.bin"), "path": "a.bin"}], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == NEW
    fetch(site, tmp_path, sha256=sha256(BODY))
    assert (tmp_path / "a.bin").read_bytes() == BODY


# interruptions


@pytest.mark.parametrize("etag", ['"one"', None])
def test_a_cut_is_gone_on_with_where_that_is_safe(site, tmp_path, etag):
    site.etags["/a.bin"] = etag
    site.faults["/a.bin"] = [("cut", 200_000), ("cut", 50_000)]
    fetch(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    ranges = [asked for _, asked in site.asked]
    assert ranges == (["", "bytes=200000-", "bytes=250000-"] if etag else ["", "", ""])


def test_a_checksum_makes_it_safe_without_an_etag(site, tmp_path):
    site.etags.clear()
    site.faults["/a.bin"] = [("cut", 200_000)]
    fetch(site, tmp_path, sha256=sha256(BODY))
    assert [asked for _, asked in site.asked] == ["", "bytes=200000-"]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_the_next_call_goes_on_with_the_part(site, tmp_path):
    site.faults["/a.bin"] = [("cut", 200_000), ("status", (403, {}))]
    with pytest.raises(RunFailed, match="HTTP 403"):
        fetch(site, tmp_path)
    assert (tmp_path / "a.bin.part").stat().st_size == 200_000
    fetch(site, tmp_path)
    assert site.asked[-1] == ("/a.bin", "bytes=200000-")
    assert site.headers[-1]["If-Range"] == '"one"'
    assert (tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_of_other_content_is_not_gone_on_with(site, tmp_path, ranges):
    site.faults["/a.bin"] = [("cut", 200_000), ("status", (403, {}))]
    with pytest.raises(RunFailed):
        fetch(site, tmp_path)
    site.files["/a.bin"], site.etags["/a.bin"], site.ranges = NEW, '"two"', ranges
    fetch(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == NEW


def test_without_ranges_it_starts_over(site, tmp_path):
    site.ranges = False
    site.faults["/a.bin"] = [("cut", 200_000)]
    fetch(site, tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_wrong_beginning_is_thrown_away_once(site, tmp_path):
    site.etags.clear()
    site.files["/a.bin"] = NEW
    site.faults["/a.bin"] = [("cut", 200_000), ("status", (403, {}))]
    with pytest.raises(RunFailed):
        fetch(site, tmp_path, sha256=sha256(BODY))
    site.files["/a.bin"], site.asked[:] = BODY, []
    fetch(site, tmp_path, sha256=sha256(BODY))
    assert [asked for _, asked in site.asked] == ["bytes=200000-", ""]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_part_that_is_whole_is_asked_for_nothing_more(site, tmp_path):
    (file,) = fetch(site, tmp_path)
    file.rename(tmp_path / "a.bin.part")  # as if it had died just before this
    fetch(site, tmp_path)
    assert site.asked[-1] == ("/a.bin", f"bytes={len(BODY)}-")
    assert file.read_bytes() == BODY


def test_a_stalled_server_is_given_up_and_asked_again(site, tmp_path):
    site.faults["/a.bin"] = [("stall", 200_000)]
    fetch(site, tmp_path, timeout=0.3)
    assert [asked for _, asked in site.asked][1:] != [""]
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_retries_end(site, tmp_path):
    busy = ("status", (503, {"Retry-After": "0"}))
    site.faults["/a.bin"] = [busy, busy]
    fetch(site, tmp_path, retries=2)
    (tmp_path / "a.bin").unlink()
    site.faults["/a.bin"] = [busy] * 9
    with pytest.raises(RunFailed, match="HTTP 503.*given up after 2 retries"):
        fetch(site, tmp_path, retries=2)
    assert len(site.faults["/a.bin"]) == 6


def test_progress_is_no_reason_to_give_up(site, tmp_path):
    site.files["/a.bin"] = BODY * 20
    site.faults["/a.bin"] = [("cut", 1_100_000)] * 5
    fetch(site, tmp_path, retries=1)
    assert (tmp_path / "a.bin").read_bytes() == BODY * 20


def test_a_server_is_waited_for_as_it_asks(site, tmp_path):
    site.faults["/a.bin"] = [("status", (503, {"Retry-After": "1"}))]
    began = time.monotonic()
    fetch(site, tmp_path)
    assert time.monotonic() - began >= 1
    site.faults["/b"] = [("status", (429, {"Retry-After": "86400"}))]
    with pytest.raises(RunFailed, match="asks to be left alone"):
        download([target(site, "b")], tmp_path)


def test_nobody_listens(tmp_path):
    with serving() as site:
        pass
    with pytest.raises(RunFailed, match="Connection refused.*given up after 1 retries"):
        fetch(site, tmp_path, retries=1)


def test_killed_drivers_leave_what_the_next_goes_on_with(site, tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(
        "from espnet3.components.data.download import download\n"
        f"download([{target(site)!r}], {str(tmp_path / 'out')!r})\n"
    )
    part = tmp_path / "out/a.bin.part"
    for start in range(1, 4):  # more often than a run deals an item that kills
        site.faults["/a.bin"] = [("stall", 65_536)]
        wanted = start * 65_536
        kill_when(lambda: part.exists() and part.stat().st_size >= wanted, script)  # noqa: B023
        # What it asked for has been served by now, as far as it was to be.
        site.released.set()
        site.released.clear()
    download([target(site)], tmp_path / "out")
    assert [asked for _, asked in site.asked] == [
        "", "bytes=65536-", "bytes=131072-", "bytes=196608-"
    ]  # fmt: skip
    assert (tmp_path / "out/a.bin").read_bytes() == BODY


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_does_not_wait_for_the_file(site, tmp_path, workers):
    site.files["/a.bin"] = BODY * 100
    site.faults["/a.bin"] = [("trickle", 200_000)]
    script = tmp_path / "driver.py"
    script.write_text(
        "from espnet3.components.data.download import download\n"
        "from espnet3.parallel.parallel import set_parallel\n"
        "if __name__ == '__main__':\n"
        f"    set_parallel({{'env': 'local', 'n_workers': {workers}}})\n"
        f"    download([{target(site)!r}], {str(tmp_path / 'out')!r})\n"
    )
    part = tmp_path / "out/a.bin.part"
    with driver_of(script) as driver:
        await_that(lambda: part.exists() and part.stat().st_size >= 200_000, driver)
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(60) == 143
    assert not site.released.is_set()  # so the file was not whole
    had = part.stat().st_size
    download([target(site)], tmp_path / "out")
    assert [asked for _, asked in site.asked] == ["", f"bytes={had}-"]
    assert (tmp_path / "out/a.bin").read_bytes() == BODY * 100


# the way there


def test_a_proxy_is_used_where_the_environment_names_one(site, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://{site.address}")
    monkeypatch.delenv("no_proxy", raising=False)
    download([{"url": "http://corpus.invalid/a.bin", "path": "a.bin"}], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_redirects_are_followed(site, tmp_path):
    site.faults["/moved"] = [("status", (302, {"Location": "/a.bin"}))]
    download([target(site, "moved")], tmp_path)
    assert (tmp_path / "moved").read_bytes() == BODY


# secrets


def test_secrets_of_a_url_are_sent_and_written_nowhere(site, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    base = f"http://me:pass%20word@{site.address}"
    targets = [
        {"url": f"{base}/a.bin?token=s3cr3t&part=1", "path": "a.bin"},
        {"url": f"{base}/lost?token=s3cr3t", "path": "lost"},
        {"url": f"{base}/busy?token=s3cr3t", "path": "busy"},
        {"url": f"{base}/moved?token=s3cr3t", "path": "moved"},
        {"url": "http://me:pass%20word@127.0.0.1:9/x?token=s3cr3t", "path": "refused"},
    ]
    site.faults["/busy"] = [("status", (503, {}))] * 9
    site.faults["/moved"] = [("status", (302, {"Location": "/moved?token=s3cr3t"}))] * 99
    with pytest.raises(RunFailed) as error:
        download(targets, tmp_path, retries=1, backoff=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert site.headers[0]["authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    assert len(error.value.failures) == 4
    text = "".join([*written(tmp_path).values(), caplog.text, str(error.value)])
    assert "fetching" in caplog.text
    for secret in ("s3cr3t", "pass%20word", "pass word", "bWU6"):
        assert secret not in text


def test_another_token_is_the_same_file_another_key_is_not(site, tmp_path):
    def get(query):
        download([{"url": site.url(f"/a.bin?{query}"), "path": "a.bin"}], tmp_path)
        return len(site.asked)

    assert get("id=1&X-Amz-Signature=abc") == 1
    assert get("id=1&X-Amz-Signature=def") == 1
    assert get("id=2&X-Amz-Signature=def") == 2


# what is refused before anything starts


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([{"url": "/x", "path": "../x"}], "'../x' is not that of a file below"),
        ([{"url": "/x", "path": "a/../../x"}], "is not that of a file below"),
        ([{"url": "/x", "path": "/etc/x"}], "is not that of a file below"),
        ([{"url": "/x", "path": "."}], "is not that of a file below"),
        ([{"url": "/x", "path": "a\0b"}], "is not that of a file below"),
        ([{"url": "/x", "path": "run/x"}], "run/ is where the run is kept"),
        ([{"url": "/x", "path": "a"}, {"url": "/y", "path": "./a"}], "a is the path of two"),
        ([{"url": "/x", "path": "a"}, {"url": "/y", "path": "a/b"}], "a/b is below a"),
        ([{"url": "/x", "path": "a"}, {"url": "/y", "path": "a.part"}], "a.part is where a is"),
        ([{"url": "ftp://me:secret@h/x", "path": "a"}], r"a: ftp://h/x is none of http://"),
        ([{"url": "http:///x", "path": "a"}], "is none of"),
        ([{"url": "http://h:port/x", "path": "a"}], "is no URL"),
        ([{"url": "/x", "path": "a", "sha256": "123"}], "a: sha256 must be 64 hex digits"),
        ([{"url": "/x", "path": "a", "size": "3"}], "a: size must be a number of bytes"),
        ([{"url": "/x", "path": "a", "sha1": "3"}], "target 1: has path, sha1, url; a target has"),
        ([{"url": "/x"}], "target 1: has url; a target has"),
        (["/x"], "must be a mapping or a Target"),
    ],
)
def test_targets_that_cannot_be_used(tmp_path, targets, message):
    with pytest.raises(ConfigError, match=message) as error:
        download(targets, tmp_path / "out")
    assert "secret" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_without_urllib3_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "urllib3", None)
    with pytest.raises(ConfigError, match=r"pip install 'espnet3\[data\]'"):
        download([{"url": "http://h/x", "path": "a"}], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "x").write_bytes(b"x")
    download([{"url": tmp_path / "x", "path": "a"}], tmp_path / "out")


def test_the_failures_are_in_the_run_directory(site, tmp_path):
    with pytest.raises(RunFailed):
        download([target(site, "lost")], tmp_path)
    (line,) = (tmp_path / "run/download/failures.jsonl").read_text().splitlines()
    assert json.loads(line)["utterance"] == "lost"
