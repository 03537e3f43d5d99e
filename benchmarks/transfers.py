"""Downloading and unpacking: `download` and `extract`, and what one would take instead.

espnet3 flushes what it writes to the disk, and none of the others does. So they are also measured
with a `sync` of the file system at their end, and espnet3 is without any flush. Before each round
everything is flushed: else who flushes pays for what others have written.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import peers, tools
from benchmarks.measure import OURS, MeasurementFailed, Options, Sample, Table, child, in_turn
from benchmarks.peers import ours_beside
from benchmarks.web_server import serving

FILES, FILES_QUICK = 32, 4
SIZE, RATE = 8_000_000, 40_000_000
"""Bytes of a file, and per second of a connection."""

ARCHIVES, ARCHIVES_QUICK = 24, 4
MEMBERS, MEMBER = 200, 40_000
"""Files in each archive, and bytes of each."""

DOWNLOADERS = {
    "wget -c -i": "wget -q -c -i list",
    "aria2c -c -j 2": "aria2c -q -c -j 2 -i list",
    "curl --parallel, 2 at a time": "curl -s -C - --parallel --parallel-max 2 -K config",
}
_TAR = "sh -c 'mkdir $0 && tar -xzf \"$SOURCES/$0.tar.gz\" -C $0'"
UNPACKERS = {
    "tar -xzf": f"xargs -n 1 {_TAR} < list",
    "tar -xzf, 2 at a time": f"xargs -n 1 -P 2 {_TAR} < list",
}
SYNC = ", then sync"
UNFLUSHED = f"{OURS}, 1 worker, no fsync"


def run(options: Options) -> list[Table]:
    """Whole calls, the start of workers included."""
    return [_downloads(options), _archives(options)]


@dataclass(frozen=True)
class _Step:
    """One of the two.

    Attributes:
        n: Items.
        megabytes: Of all results.
        task: Does one item for `peers`.
        given: What finds the sources, for `task` and for `call`.
        check: Raises if a directory does not hold the results.
    """

    n: int
    megabytes: float
    task: str
    given: dict[str, Any]
    check: Callable[[Path], None]

    def ours(self, options: Options, workers: int, flushes: bool = True) -> Sample:
        """One round of espnet3."""
        out = options.place()
        kwargs = {"step": self.task, "n": self.n, "workers": workers, "out": out, **self.given}
        os.sync()
        seconds, at_work = child(
            "benchmarks.transfers:call", {**kwargs, "flushes": flushes}
        ).returned
        around = {"MB/s at work": self.megabytes / at_work, "s around it": seconds - at_work}
        return self._sample(out, seconds) | around

    def ours_or_peer(self, options: Options, how: str, workers: int) -> Sample:
        """One round of espnet3, or of one of `peers`."""
        if how == OURS:
            return self.ours(options, workers)
        out = options.place()
        task = {"task": self.task, "options": {**self.given, "out": str(out)}}
        lines = options.place() / "lines"
        kwargs = {"how": how, "n": self.n, "workers": workers, "out": lines, **task}
        os.sync()
        return self._sample(out, child("benchmarks.peers:run", kwargs).returned["seconds"])

    def tool(self, options: Options, command: str) -> Sample:
        """One round of a shell command, which finds ``list`` and ``config`` where it puts files."""
        out, urls = options.place(), self.given.get("urls", [])
        lines = urls or map(str, range(self.n))
        (out / "list").write_text("\n".join(lines) + "\n", encoding="ascii")
        config = "".join(f"url = {url}\nremote-name\n" for url in urls)
        (out / "config").write_text(config, encoding="ascii")
        os.sync()
        seconds = tools.run(command, out, SOURCES=self.given.get("sources", ""))
        return self._sample(out, seconds)

    def _sample(self, out: Path, seconds: float) -> dict[str, float]:
        self.check(out)
        return {"MB/s": self.megabytes / seconds, "seconds": seconds}


def call(
    step: str, n: int, workers: int, out: str, flushes: bool, **given: Any
) -> tuple[float, float]:
    """Runs in a measured process: a step by espnet3.

    Args:
        step: ``fetch`` or ``unpack``.
        n: Items.
        workers: How many; without `flushes`, 1, which is this process.
        out: Where to.
        flushes: Whether what is written is flushed.
        **given: What finds the sources.

    Returns:
        Seconds of the whole, and from the first item's start to the last one's end.
    """
    if not flushes:
        os.fsync = lambda _: None  # type: ignore[assignment]
    begin = perf_counter()
    from espnet3.parallel.parallel import set_parallel

    set_parallel({"env": "local", "n_workers": workers})
    if step == "fetch":
        from espnet3.components.data.download import download

        download([{"url": url, "path": str(i)} for i, url in enumerate(given["urls"])], out)
    else:
        from espnet3.components.data.extract import extract

        extract([f"{given['sources']}/{i}.tar.gz" for i in range(n)], out)
    seconds = perf_counter() - begin
    events = Path(out, "run", "download" if step == "fetch" else "extract", "events.jsonl")
    entries = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    times = [e["time"] for e in entries if e["event"] in ("dealt", "reported")]
    return seconds, times[-1] - times[0]


def _downloads(options: Options) -> Table:
    n = FILES_QUICK if options.quick else FILES
    with serving(n, SIZE, RATE) as server:

        def check(out: Path) -> None:
            if any((out / str(i)).read_bytes() != body for i, body in enumerate(server.bodies)):
                raise MeasurementFailed(f"{out}: a file is not what was served")

        step = _Step(n, n * SIZE / 1e6, "fetch", {"urls": server.urls()}, check)
        title = f"{n} files of {SIZE / 1e6:g} MB from a server that gives {RATE / 1e6:g} MB/s each"
        return _table(f"Downloading {title}", step, DOWNLOADERS, options)


def _archives(options: Options) -> Table:
    n = ARCHIVES_QUICK if options.quick else ARCHIVES
    sources = str(options.place())
    made = {"out": sources, "n": n, "members": MEMBERS, "size": MEMBER}
    child("benchmarks.stages:write_archives", made)

    def check(out: Path) -> None:
        found = sum(path.stat().st_size == MEMBER for path in out.glob("[0-9]*/wav/*"))
        if found != n * MEMBERS:
            raise MeasurementFailed(f"{out}: {found} files, not {n * MEMBERS}")

    step = _Step(n, n * MEMBERS * MEMBER / 1e6, "unpack", {"sources": sources}, check)
    title = f"Unpacking {n} .tar.gz of {MEMBERS} files of {MEMBER / 1e3:g} kB each"
    return _table(title, step, UNPACKERS, options)


def _table(title: str, step: _Step, commands: dict[str, str], options: Options) -> Table:
    variants = ours_beside(partial(step.ours_or_peer, options), peers.JOBLIB)
    variants[UNFLUSHED] = partial(step.ours, options, 1, flushes=False)
    there, notes = tools.installed(commands)
    for who, command in there.items():
        variants[who] = partial(step.tool, options, command)
        variants[who + SYNC] = partial(step.tool, options, f"{command} && sync -f .")
    return Table(title, in_turn(variants, options.repeats), notes)
