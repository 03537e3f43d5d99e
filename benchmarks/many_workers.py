"""What many workers cost their driver: CPU for each worker and lease, memory, files open, shards.

The driver is real, with `env: ssh`: its scheduler, hub, watch and ledger. Only what `ssh` would
start is not; see `worker_host`. Items sleep, so that many workers fit on few cores.
"""

import os
import subprocess
import threading
import time
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks.measure import MeasurementFailed, Options, Sample, Table, child, in_turn

WORKERS, WORKERS_QUICK = (1, 10, 100, 1000), (1, 10)
PER_HOST = 250  # workers that one process stands for
LEASE, ITEM = 1.0, 0.3  # seconds
LEASES, MOST_LEASES = 8, 3000  # for each worker, and for all, in the run of short leases
HOLD, HOLD_QUICK = 15.0, 3.0  # seconds of doing nothing, with all workers
ENOUGH = 50  # leases, from which the CPU time of one can be told
PATIENCE = 300.0
SPACE = ("MiB", "MiB before", "files open", "threads", "shards", "other files", "logs")


def run(options: Options) -> list[Table]:
    """One row for each number of workers; CPU, memory and files are those of the driver alone."""
    sizes = WORKERS_QUICK if options.quick else WORKERS
    rows = in_turn({f"{n:,}": partial(_sample, n, options) for n in sizes}, options.repeats)
    time_ = Table(f"The driver of so many workers: time; leases of {LEASE:g} s")
    space = Table("The driver of so many workers: space, at most")
    for who, samples in rows.items():
        time_.rows[who] = [{q: v for q, v in s.items() if q not in SPACE} for s in samples]
        space.rows[who] = [{q: s[q] for q in SPACE} for s in samples]
    time_.notes = ["workers share this machine: seconds and leases/s are theirs as much"]
    return [time_, space]


def _sample(n: int, options: Options) -> Sample:
    kwargs = {"n": n, "out": options.place(), "hold": HOLD_QUICK if options.quick else HOLD}
    got: dict[str, float] = child("benchmarks.many_workers:drive", kwargs).returned
    return got


def drive(n: int, out: str, hold: float) -> dict[str, float]:
    """Runs in a measured process: `n` workers come, do some runs, and go."""
    from benchmarks.simulated import settings, simulated_hosts
    from espnet3.parallel.parallel import get_settings, parallel_session, shared_cluster

    watch = _Sampler(Path(out) / "short" / "ledger.1.jsonl")
    before = watch.status("VmRSS")
    with simulated_hosts(PER_HOST) as hosts:
        with parallel_session(settings(n)):
            join = _Spent()
            with shared_cluster(get_settings()[0], Path(out) / "logs") as cluster:
                _await(lambda: len(cluster.scheduler.workers) == n, hosts.processes)
            join.end()
            held = _Spent()
            time.sleep(hold)
            held.end()
            _nap(Path(out) / "warm", n, 0.1, lease=60.0)
            base = _nap(Path(out) / "base", n, 2.0, lease=60.0)
            n_items = round(min(n * LEASES, MOST_LEASES) * LEASE / ITEM)
            _nap(Path(out) / "short", n_items, ITEM, lease=LEASE)
            watch.stop()
            close = _Spent()
        close.end()
    idle = held.cpu / held.wall
    cpu, seconds, share = watch.between(0.2, 0.8)
    names = os.listdir(Path(out) / "short")
    shards = sum(name.startswith("split.") for name in names)
    leases = share * shards
    per_lease = {"CPU ms/lease": 1000 * (cpu - idle * seconds) / leases}
    return {
        "leases/s": leases / seconds,
        **(per_lease if leases >= ENOUGH else {}),
        "CPU % for heartbeats": 100 * idle,
        "CPU ms/worker to join": 1000 * join.cpu / n,
        "CPU ms/worker for a run": 1000 * (base.cpu - idle * base.wall) / n,
        "CPU ms/worker to close": 1000 * close.cpu / n,
        "s to join": join.wall,
        "s for a run": base.wall - 2.0,
        "s to close": close.wall,
        "MiB": watch.most["VmRSS"] / 1024,
        "MiB before": before / 1024,
        "files open": watch.most["fds"],
        "threads": watch.most["Threads"],
        "shards": shards,
        "other files": len(names) - shards,
        "logs": len(os.listdir(Path(out) / "short" / "logs")),
    }


class _Spent:
    """CPU seconds of this process, and seconds, from its making to `end`."""

    def __init__(self) -> None:
        self.cpu, self.wall = -process_time(), -perf_counter()

    def end(self) -> "_Spent":
        """Stop the clocks."""
        self.cpu, self.wall = self.cpu + process_time(), self.wall + perf_counter()
        return self


class _Sampler:
    """Looks twice a second at what this process has, and how far a ledger has come."""

    def __init__(self, ledger: Path) -> None:
        self.most: dict[str, int] = {}
        """Memory in KiB, threads and open files, at most."""
        self._ledger = ledger
        self._marks: list[tuple[float, float, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def between(self, first: float, last: float) -> tuple[float, float, float]:
        """CPU seconds, seconds, and share of the ledger between two such shares, about."""
        whole = self._ledger.stat().st_size
        inside = [mark for mark in self._marks if first <= mark[2] / whole <= last]
        if len(inside) < 2:
            raise MeasurementFailed("the run of short leases was too short")
        cpu, seconds, size = (b - a for a, b in zip(inside[0], inside[-1], strict=True))
        return cpu, seconds, size / whole

    def status(self, key: str) -> int:
        """A number of /proc/self/status; sizes are in KiB."""
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
        raise RuntimeError(f"/proc/self/status has no {key}")

    def _run(self) -> None:
        while not self._ended.wait(0.5):
            now = {key: self.status(key) for key in ("VmRSS", "Threads")}
            now["fds"] = len(os.listdir("/proc/self/fd"))
            self.most = {key: max(value, self.most.get(key, 0)) for key, value in now.items()}
            if self._ledger.exists():
                mark = process_time(), perf_counter(), self._ledger.stat().st_size
                self._marks.append(mark)


def _nap(place: Path, n: int, seconds: float, lease: float) -> _Spent:
    """Do `n` items of so many seconds, and one more that is left: a run that is not merged."""
    from benchmarks.runners import RUNNERS, TaskProvider
    from espnet3.parallel.parallel import set_parallel

    set_parallel(None, run={"limit": n, "lease_seconds": lease})
    provider = TaskProvider({"task": "doze", "options": {"seconds": seconds}})
    spent = _Spent()
    RUNNERS["doze"](provider, output_dir=place)(range(n + 1))
    return spent.end()


def _await(condition: Any, hosts: "list[subprocess.Popen[bytes]]") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline or any(host.poll() is not None for host in hosts):
            raise MeasurementFailed("the workers did not all come")
        time.sleep(0.02)
