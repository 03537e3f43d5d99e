"""The first utterances of the data directory through the model."""

import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).parents[1]
START = RECIPE / "@start@"  # where the paths of the scp files count from


def test_recipe(tmp_path: Path) -> None:
    command = [sys.executable, str(RECIPE / "run.py"), "--stages", "infer", "--limit", "2"]
    command += ["--inference_config", str(RECIPE / "conf/inference.yaml")]
    # Hypotheses go elsewhere, so that this is no part of your experiment.
    command.append(f"inference_dir={tmp_path}")
    done = subprocess.run(command, cwd=START, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "@name@").glob("split.*/done"))
