"""Which GPU this process has, in words."""

import os
import sys
from contextlib import suppress

from espnet3.parallel.worker.settings import VISIBLE_GPUS


def device_here() -> str:
    """Such as `GPU 3 (NVIDIA H100 80GB HBM3)`; "" where this process was given none.

    Its name is known only if PyTorch is in use here already: nothing is imported for it.
    """
    visible = os.environ.get(VISIBLE_GPUS, "").strip()
    name = ""
    torch = sys.modules.get("torch")
    with suppress(Exception):  # of a GPU that is lost nothing can be asked
        if torch is not None and torch.cuda.is_initialized():
            name = str(torch.cuda.get_device_name())
    if not visible or visible == "-1":
        return name
    number = visible if visible.startswith(("GPU-", "MIG-")) else f"GPU {visible}"
    return f"{number} ({name})" if name else number
