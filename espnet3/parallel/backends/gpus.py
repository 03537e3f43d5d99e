"""`env: local_gpu`: which GPUs this process may use, one for each worker."""

import logging
import os
import re
import subprocess

from espnet3.errors import ConfigError
from espnet3.parallel.worker.settings import VISIBLE_GPUS

logger = logging.getLogger(__name__)

ASK = ("nvidia-smi", "-L")
_DEVICE = re.compile(r"^(?P<slice>\s+)?.*\(UUID: (?P<uuid>[^)]+)\)")


def gpus_for(n_workers: int) -> list[str]:
    """The first `n_workers` of the visible GPUs, as entries of CUDA_VISIBLE_DEVICES.

    Raises:
        ConfigError: if there are fewer, saying how many there are and who says so.
    """
    devices, source = visible_gpus()
    if len(devices) < n_workers:
        n = f"only {len(devices)}" if devices else "no"
        gpus = "GPU is" if len(devices) <= 1 else "GPUs are"
        raise ConfigError(
            f"parallel.n_workers: env: local_gpu gives each of {n_workers} workers a GPU of its "
            f"own, and {n} {gpus} visible here ({source})"
        )
    if len(devices) > n_workers:
        logger.warning(
            "parallel.n_workers: %d of the %d GPUs that are visible here are used",
            n_workers, len(devices),
        )  # fmt: skip
    return devices[:n_workers]


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
