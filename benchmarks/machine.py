"""The machine that figures were measured on."""

import multiprocessing
import os
import platform
from importlib import metadata
from pathlib import Path


def describe(directory: Path) -> dict[str, str]:
    """Say what decides figures: hardware, versions, load; no names of hosts, users or paths.

    Args:
        directory: where the measured files are written.
    """
    return {
        "CPU": _cpu(),
        "cores": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} usable",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "file system": _file_system(directory),
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()} ({multiprocessing.get_start_method()})",
        **{name: _version(name) for name in ("espnet3", "dask", "distributed", "numpy", "joblib")},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        if name == "espnet3":
            from espnet3 import __version__

            return __version__
        return "not installed"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """Type of the file system, which decides what an fsync costs."""
    found, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, this_kind, *_ = line.split()
        if directory.resolve().is_relative_to(mount) and len(mount) >= len(found):
            found, kind = mount, this_kind
    return kind
