"""What the engine's tests share: the simulation's place, and room for run directories in memory."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Test modules are imported one by one (import-mode=importlib), so a helper needs its path said.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def quick_dir(tmp_path: Path) -> Iterator[Path]:
    """An empty directory in memory where there is one: schedules make thousands of small files."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        yield tmp_path
        return
    directory = Path(tempfile.mkdtemp(prefix="espnet3-tests.", dir=shm))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
