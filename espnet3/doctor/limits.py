"""Whether the driver may have as many open files and processes as its workers need."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from espnet3.doctor.finding import Finding, ok, problem
from espnet3.parallel.backends import open_files
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.config_check import LOCAL

THREADS_OF_A_WORKER = 40
"""Processes and threads, which count alike, of one local worker with all that it brings."""

THREADS_OF_A_DRIVER = 60

_CAP_SYS_RESOURCE = 1 << 24


def look(parallel: ParallelConfig) -> list[Finding]:
    """Check the limits of this process against what the configured workers need."""
    return [_files(parallel), _processes(parallel)]


def _files(parallel: ParallelConfig) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken, each = open_files.needs(parallel.env)
    needed = taken + each * parallel.n_workers
    seen = (
        f"{parallel.n_workers} workers may need {needed}, the limit is {_shown(soft)} "
        f"(`ulimit -n`), and {_shown(hard)} at most (`ulimit -Hn`)"
    )
    if hard != resource.RLIM_INFINITY and hard < needed:
        enough_for = max(0, hard - taken) // each
        how = (
            f"set parallel.n_workers to {enough_for} at most, or have the hard limit raised "
            "(/etc/security/limits.conf; `ulimit -Hn` of the shell or container)"
        )
        return problem("open files", seen, how)
    if soft != resource.RLIM_INFINITY and soft < needed:
        seen += "; runs raise it themselves"
    return ok("open files", seen)


def _processes(parallel: ParallelConfig) -> Finding:
    local = parallel.n_workers if parallel.env in LOCAL else 0
    needed = THREADS_OF_A_DRIVER + THREADS_OF_A_WORKER * local
    room, source = _room()
    if room is None:
        return ok("processes", source)
    seen = f"{room} more processes and threads may be started ({source}); about {needed} are needed"
    if room < needed:
        fewer = max(0, (room - THREADS_OF_A_DRIVER) // THREADS_OF_A_WORKER)
        how = "end what else you run there, or have the limit raised"
        how = f"set parallel.n_workers to {fewer} at most, {how}" if local and fewer else how
        return problem("processes", seen, how)
    return ok("processes", seen)


def _room() -> tuple[int | None, str]:
    """How many more threads may be started, None for any number, and which limit says so."""
    rooms = []
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and not _is_exempt():
        rooms.append((soft - _threads_of_user(), f"`ulimit -u` is {soft}"))
    for group in _groups():
        most, now = _read(group / "pids.max"), _read(group / "pids.current")
        if most.isdigit() and now.isdigit():
            rooms.append((int(most) - int(now), f"pids.max of the control group is {most}"))
    return min(rooms, default=(None, "no limit"))


def _is_exempt() -> bool:
    """Root, in effect: the kernel lets it start as many as it likes."""
    for line in _read(Path("/proc/self/status")).splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) & _CAP_SYS_RESOURCE)
    return os.geteuid() == 0


def _threads_of_user() -> int:
    n, uid = 0, os.getuid()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == uid:
                n += len(os.listdir(process / "task"))
        except OSError:  # it has ended, or is none of our business
            continue
    return n


def _groups() -> list[Path]:
    """The control groups of this process, each within the next."""
    found: list[Path] = []
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, kind, path = line.split(":", 2)
        if kind in ("", "pids"):
            root = Path("/sys/fs/cgroup", kind)
            own = root / path.lstrip("/")
            found += [own, *(p for p in own.parents if p == root or root in p.parents)]
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
