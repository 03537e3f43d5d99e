"""`env: local_gpu`: which GPUs this process may use, and which worker has which."""

import logging
import os
import re
import subprocess

from espnet3.errors import ConfigError
from espnet3.parallel.config import ParallelConfig
from espnet3.parallel.worker.settings import VISIBLE_GPUS

logger = logging.getLogger(__name__)

ASK = ("nvidia-smi", "-L")
_DEVICE = re.compile(r"^(?P<slice>\s+)?.*\(UUID: (?P<uuid>[^)]+)\)")


def gpus_for(config: ParallelConfig) -> list[str]:
    """The GPU of each worker, as an entry of CUDA_VISIBLE_DEVICES: the visible ones in turn.

    Raises:
        ConfigError: if there are too few, saying how many there are and who says so.
    """
    devices, source = visible_gpus()
    n_workers, per_gpu = config.n_workers, config.workers_per_gpu
    room = len(devices) * per_gpu
    if room < n_workers:
        n = f"only {len(devices)}" if devices else "no"
        gpus = "GPU is" if len(devices) <= 1 else "GPUs are"
        share = "a GPU of its own" if per_gpu == 1 else f"1/{per_gpu} of a GPU (workers_per_gpu)"
        most = f": n_workers may be {room} at most" if devices else ""
        raise ConfigError(
            f"parallel.n_workers: env: local_gpu gives each of {n_workers} workers {share}, "
            f"and {n} {gpus} visible here ({source}){most}"
        )
    if len(devices) > n_workers:
        logger.warning(
            "parallel.n_workers: %d of the %d GPUs that are visible here are used",
            n_workers, len(devices),
        )  # fmt: skip
    elif room > n_workers:
        logger.warning(
            "parallel.n_workers: %d workers on %d GPUs, where workers_per_gpu: %d has room for %d",
            n_workers, len(devices), per_gpu, room,
        )  # fmt: skip
    return [devices[i % len(devices)] for i in range(n_workers)]


def visible_gpus() -> tuple[list[str], str]:
    """All GPUs that CUDA may use here, and where that is known from.

    Where the variable is not set they are named by UUID: the numbers of `nvidia-smi` and of CUDA
    may differ. A GPU that is cut into MIG slices counts as its slices.
    """
    given = os.environ.get(VISIBLE_GPUS)
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        # CUDA ignores what follows the first name that is none.
        ends = (i for i, name in enumerate(names) if name in ("", "-1", "NoDevFiles"))
        return names[: next(ends, len(names))], f"{VISIBLE_GPUS}={given}"
    try:
        said = subprocess.run(ASK, capture_output=True, text=True, timeout=60.0, check=True)
    except FileNotFoundError:
        return [], f"{VISIBLE_GPUS} is not set, and there is no {ASK[0]}"
    except (OSError, subprocess.SubprocessError) as error:
        words = getattr(error, "stderr", None) or getattr(error, "stdout", None) or error
        return [], f"{' '.join(ASK)}: {str(words).strip()}"
    return _listed(said.stdout), f"{' '.join(ASK)} lists them"


def _listed(text: str) -> list[str]:
    devices: list[str] = []
    whole = ""  # the GPU whose slices may follow
    for found in filter(None, map(_DEVICE.match, text.splitlines())):
        if found["slice"] is None:
            whole = found["uuid"]
        elif devices and devices[-1] == whole:
            devices.pop()
        devices.append(found["uuid"])
    return devices
