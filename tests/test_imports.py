"""What an import must not bring along, each in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "dask", "distributed", "dask_jobqueue", "hydra", "omegaconf", "numpy")
HEAVY += ("cryptography",)


@pytest.mark.parametrize(
    "module",
    [
        "espnet3",
        "espnet3.parallel.base_runner",
        "espnet3.parallel.env_provider",
        "espnet3.parallel.parallel",
        "espnet3.parallel.config",
        "espnet3.runs",
    ],
)
def test_importing_stays_light(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules))"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    assert set(result.stdout.split()).isdisjoint(HEAVY)
