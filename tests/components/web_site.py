"""A web server in a thread, with the faults that real ones have."""

import threading
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """What is served, and how badly.

    Attributes:
        files: content by path, without query.
        etags: by path; without one, none is sent.
        faults: for each path what befalls the next requests, the first one first.
        asked: (path, Range header or "") of each request.
        headers: all headers of each request.
        ranges: whether Range is supported.
        n_connections: how many have been opened.
    """

    def __init__(self):
        self.files, self.etags, self.faults = {}, {}, defaultdict(list)
        self.asked, self.headers, self.ranges = [], [], True
        self.n_connections = 0
        self.released = threading.Event()
        self.address = ""

    def url(self, path):
        return f"http://{self.address}{path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.site.n_connections += 1

    def do_GET(self):
        site = self.server.site
        path = self.path.partition("?")[0]
        if path.startswith("http://"):  # we are its proxy
            path = "/" + path.split("/", 3)[3]
        site.asked.append((path, self.headers.get("Range", "")))
        site.headers.append(dict(self.headers))
        fault, value = site.faults[path].pop(0) if site.faults[path] else ("", None)
        if fault == "status":
            self.answer(value[0], b"trouble", **value[1])
        elif path not in site.files:
            self.answer(404, b"nothing here")
        else:
            self.serve(site, path, fault, value)

    def serve(self, site, path, fault, value):
        body, etag = site.files[path], site.etags.get(path)
        headers = {"ETag": etag} if etag else {}
        asked, status = self.headers.get("Range"), 200
        fresh = self.headers.get("If-Range") in (None, etag)
        first = 0
        if asked and site.ranges and fresh:
            first = int(asked.removeprefix("bytes=").rstrip("-"))
            if first >= len(body):
                return self.answer(416, b"", **{"Content-Range": f"bytes */{len(body)}"})
            status = 206
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        rest = body[first:]
        if fault not in ("cut", "stall", "trickle"):
            return self.answer(status, rest, **headers)
        self.answer(status, rest[:value], length=len(rest), **headers)
        if fault == "stall":
            site.released.wait(60)
        while fault == "trickle" and value < len(rest) and not site.released.wait(0.01):
            self.wfile.write(rest[value : value + 10_000])
            value += 10_000
        self.close_connection = True
        return None

    def answer(self, status, body, length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


@contextmanager
def serving():
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.site = site
    site.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
