"""Some lives of runs in real processes under random faults; `run.py` has thousands.

A failure tells all that was done, and names its seed. The same life, as far as the machine's timing
allows it:

    python tests/faults/run.py SEED
"""

from pathlib import Path

import pytest
from life import live

LIVES = 16


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(LIVES))
def test_life_ends_with_what_a_calm_run_gives(tmp_path: Path, seed: int) -> None:
    live(tmp_path / "life", seed)
