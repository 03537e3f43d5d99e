"""The whole recipe, from the raw corpus to the table of error rates."""

import json
import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).parents[1]


def test_recipe(tmp_path: Path) -> None:
    command = [sys.executable, "run.py", "--stages", "create_dataset", "infer", "measure"]
    for role in ("training", "inference", "metrics"):
        command += [f"--{role}_config", f"conf/{role}.yaml"]
    # Hypotheses go elsewhere, so that this is no part of your experiment.
    command.append(f"inference.inference_dir={tmp_path}")
    done = subprocess.run(command, cwd=RECIPE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    hypotheses = (tmp_path / "test/text").read_text().splitlines()
    assert hypotheses[0] == "utt4 low high"
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "WER" in json.dumps(metrics).upper()
