"""Every stage, killed half-way (SIGKILL) and started again: what is begun or fetched twice."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.half_way import items_begun, kill, start_command, start_half_way
from benchmarks.measure import MeasurementFailed, Options, Sample, Table, child, in_turn
from benchmarks.peers import JOBLIB, available
from benchmarks.stages import STAGES
from benchmarks.web_server import FileServer, serving

OURS, SCRIPT = "benchmarks.stages:run", "benchmarks.stages:by_script"
SIZE, RATE = 2_000_000, 4_000_000
"""Bytes of a file that is downloaded, and per second of a connection."""

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "espnet3": (OURS, {}),
    "joblib, everything again": (SCRIPT, {"skip": False}),
    "joblib, unless its output is there": (SCRIPT, {"skip": True}),
}
"""Who -> the function, and arguments for it."""


def run(options: Options) -> list[Table]:
    """All stages with two workers, before and after."""
    has_joblib, has_wget = bool(available(JOBLIB)), shutil.which("wget") is not None
    table = Table("SIGKILL half-way through a stage, and the same command again", compared=False)
    for stage in STAGES:
        case = _Case(options, stage)
        variants = {
            f"`{stage}`: {who}": partial(case.measure, *way)
            for who, way in WAYS.items()
            if way[0] == OURS or has_joblib
        }
        if stage == "download" and has_wget:
            variants[f"`{stage}`: wget -c, two at a time"] = partial(_wget, options)
        table.rows |= in_turn(variants, options.repeats)
    table.notes = ["all processes were killed at once, with two workers; then two went on"]
    table.notes += ["joblib is not installed"] * (not has_joblib)
    table.notes += ["wget is not installed"] * (not has_wget)
    return [table]


class _Case:
    """One stage on its sources."""

    def __init__(self, options: Options, stage: str) -> None:
        self._options, self._stage, self._n = options, stage, STAGES[stage].n
        self._sources = options.place()
        child("benchmarks.stages:make_sources", {"stage": stage, "out": self._sources})
        self._expected: dict[str, dict[str, str]] = {}

    def measure(self, function: str, arguments: dict[str, Any]) -> Sample:
        """Count in one round; the results are compared with those of a calm one."""
        if function not in self._expected:
            with self._root() as (root, given, _):
                child(function, {**given, "workers": 1, **arguments})
                self._expected[function] = self._results(function, root)
        with self._root() as (root, given, server):
            given |= {"workers": 2, **arguments}
            kill(start_half_way(function, given, root, self._n), patience=0)
            begun = len(set(items_begun(root)))
            child(function, given)
            names = self._results(function, root).items() ^ self._expected[function].items()
            # An archive is one item, whose files are below its directory.
            depth = None if self._stage != "extract" else 1
            wrong = len({"/".join(name.split("/")[:depth]) for name, _ in names})
            return _counts(root, self._n, begun, wrong, server)

    @contextmanager
    def _root(self) -> Iterator[tuple[Path, dict[str, Any], FileServer | None]]:
        """A new directory, the arguments of the function, and the server that it may need."""
        root = self._options.place()
        for name in ("log", "out"):
            (root / name).mkdir()
        (root / "sources").symlink_to(self._sources)
        given: dict[str, Any] = {"stage": self._stage, "root": root}
        if self._stage != "download":
            yield root, given, None
            return
        with serving(self._n, SIZE, RATE, root / "log" / "0") as server:
            yield root, {**given, "urls": server.urls()}, server

    def _results(self, function: str, root: Path) -> dict[str, str]:
        """Digests of the files that a calm call writes as well."""
        pattern = STAGES[self._stage].results if function == OURS else "**/*"
        found = {
            str(path.relative_to(root / "out")): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (root / "out").glob(pattern)
            if path.is_file()
        }
        if not found:
            raise MeasurementFailed(f"{self._stage}: there is nothing like {pattern}")
        return found


def _wget(options: Options) -> Sample:
    """Count in one round of ``wget -c``, a process for each file."""
    root, n = options.place(), STAGES["download"].n
    (root / "log").mkdir()
    with serving(n, SIZE, RATE, root / "log" / "0") as server:
        (root / "list").write_text("\n".join(server.urls()), encoding="ascii")
        command = ["sh", "-c", "xargs -n 1 -P 2 wget -q -c < list"]
        kill(start_command(command, root, n), patience=0)
        begun = len(set(items_begun(root)))
        subprocess.run(command, cwd=root, check=False)  # fails if a file was whole
        wrong = sum((root / str(i)).read_bytes() != body for i, body in enumerate(server.bodies))
        return _counts(root, n, begun, wrong, server)


def _counts(root: Path, n: int, begun: int, wrong: int, server: FileServer | None) -> Sample:
    counts: dict[str, float] = {
        "begun twice": len(items_begun(root)) - n,
        "of those begun": begun,
        "wrong in the end": wrong,
    }
    if server is not None:
        counts["MB fetched twice"] = max(0.0, server.sent - n * SIZE) / 1e6  # or not at all
    return counts
