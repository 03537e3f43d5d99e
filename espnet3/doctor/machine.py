"""Limits, scratch space and GPUs of one machine: asked in the driver, and on a worker's node."""

from __future__ import annotations

import csv
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from espnet3.doctor.finding import Finding, ok, problem, warning
from espnet3.doctor.installation import version_of
from espnet3.parallel.backends import asking
from espnet3.parallel.backends.gpus import visible_gpus
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.config_check import LOCAL

ALIKE = ("espnet3", "dask", "distributed", "cloudpickle", "msgpack", "numpy", "omegaconf")
"""Packages whose versions driver and workers are compared by."""

LEAST_SHM = 256 << 20
"""Bytes of /dev/shm below which PyTorch's data loaders fail; a container has 64 MiB by default."""

LEAST_TEMPORARY = 1 << 30
"""Bytes of scratch space below which it is worth a word."""


@dataclass(frozen=True)
class Machine:
    """What one process sees of the machine that it runs on.

    Attributes:
        host: its name.
        python: version, and path of the interpreter.
        versions: of the packages in `ALIKE`; "" for one that is missing.
        open_files: soft and hard limit; -1 for none.
        cores: that this process may use.
        gpus: that CUDA may use here, by number or UUID.
        gpus_from: where that is known from.
        shm: bytes free in /dev/shm; None if it cannot be written to.
        temporary: directory for temporary files, "" if there is none.
        temporary_free: bytes free there.
    """

    host: str
    python: tuple[str, str]
    versions: dict[str, str]
    open_files: tuple[int, int]
    cores: int
    gpus: tuple[str, ...]
    gpus_from: str
    shm: int | None
    temporary: str
    temporary_free: int

    @classmethod
    def here(cls) -> Self:
        """Look at this machine."""
        gpus, gpus_from = visible_gpus()
        temporary = _temporary()
        version = ".".join(map(str, sys.version_info[:3]))
        return cls(
            host=os.uname().nodename,
            python=(version, sys.executable),
            versions={name: version_of(name) for name in ALIKE},
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE),
            cores=len(os.sched_getaffinity(0)),
            gpus=tuple(gpus),
            gpus_from=gpus_from,
            shm=_shm(),
            temporary=temporary,
            temporary_free=shutil.disk_usage(temporary).free if temporary else 0,
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def scratch(machine: Machine, where: str = "") -> list[Finding]:
    """Check /dev/shm and the directory for temporary files.

    Args:
        machine: that they are on.
        where: what it is to the user, to begin the name of a check with.
    """
    return [_check_shm(machine, f"{where}/dev/shm"), _check_temporary(machine, f"{where}TMPDIR")]


def _check_shm(machine: Machine, check: str) -> Finding:
    if machine.shm is None:
        how = "mount it (tmpfs, mode 1777): Python's multiprocessing has its locks there"
        return problem(check, "cannot be written to", how)
    if machine.shm < LEAST_SHM:
        how = "PyTorch's data loaders need more; a container gets it by `--shm-size=2g`"
        return warning(check, f"{size(machine.shm)} free", how)
    return ok(check, f"{size(machine.shm)} free")


def _check_temporary(machine: Machine, check: str) -> Finding:
    if not machine.temporary:
        how = "set TMPDIR to a directory on this machine's own disk that you may write to"
        return problem(check, "no directory for temporary files can be written to", how)
    seen = f"{machine.temporary}, {size(machine.temporary_free)} free"
    if machine.temporary_free < LEAST_TEMPORARY:
        return warning(check, seen, "make room there, or set TMPDIR to another directory")
    return ok(check, seen)


def gpus(machine: Machine, parallel: ParallelConfig) -> Finding:
    """Check the GPUs of the driver's machine, which matter for `env: local_gpu`."""
    n = len(machine.gpus)
    cards = _cards() if n else ""
    seen = f"{n} visible ({machine.gpus_from}){cards}"
    if parallel.env != "local_gpu":
        return ok("GPUs", seen)
    if n < parallel.n_workers:
        how = (
            f"set parallel.n_workers to {n} at most, or CUDA_VISIBLE_DEVICES to the GPUs that you "
            "may use"
            if n
            else "start it where there are GPUs, or with `env: local`; see what `nvidia-smi` says"
        )
        seen = f"{seen}, and env: local_gpu gives each of {parallel.n_workers} workers one"
        return problem("GPUs", seen, how)
    if n > parallel.n_workers:
        how = f"set parallel.n_workers to {n} to use all of them"
        return warning("GPUs", f"{seen}, for {parallel.n_workers} workers", how)
    return ok("GPUs", seen)


def cores(machine: Machine, parallel: ParallelConfig) -> Finding:
    """Check that local workers have a core each."""
    seen = f"this process may use {machine.cores}"
    if parallel.env in LOCAL and parallel.n_workers > machine.cores:
        how = f"set parallel.n_workers to {machine.cores}: more share the cores, and memory is used"
        return warning("cores", f"{seen}, for {parallel.n_workers} workers", how)
    return ok("cores", seen)


def size(n_bytes: int) -> str:
    """A number of bytes in words."""
    if n_bytes >= 10 << 30:
        return f"{n_bytes / (1 << 30):.0f} GiB"
    if n_bytes >= 1 << 30:
        return f"{n_bytes / (1 << 30):.1f} GiB"
    return f"{n_bytes / (1 << 20):.0f} MiB"


def _shm() -> int | None:
    try:
        with tempfile.TemporaryFile(dir="/dev/shm"):
            return shutil.disk_usage("/dev/shm").free
    except OSError:
        return None


def _temporary() -> str:
    """As Python's and the shell's programs choose it: TMPDIR, as far as it can be written to."""
    try:
        directory = os.environ.get("TMPDIR") or tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=directory):
            return str(Path(directory).absolute())
    except OSError:
        return ""


def _cards() -> str:
    """What `nvidia-smi` says of the cards, a line each; "" if it says nothing."""
    columns = "index,name,memory.total,driver_version"
    command = ["nvidia-smi", f"--query-gpu={columns}", "--format=csv,noheader"]
    try:
        said = asking.run(command, limit=15.0).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "".join(f"\n{line}" for line in _shown(said))


def _shown(said: str) -> Iterator[str]:
    for row in csv.reader(said.splitlines(), skipinitialspace=True):
        if len(row) == 4:
            index, name, memory, driver = row
            yield f"GPU {index}: {name}, {memory}, driver {driver}"
