"""The mini_an4 recipe with another `parallel:` block, and what comes of it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def results_of(recipe, parallel):
    """Run all stages in a directory that does not exist yet.

    Returns the table, less its real-time factors, and the bytes of all other results by their
    names.
    """
    ignored = shutil.ignore_patterns("data", "exp")
    shutil.copytree(ROOT / "egs3/mini_an4/asr", recipe, ignore=ignored)
    (recipe / "conf/where.yaml").write_text(json.dumps({"parallel": parallel}))
    done = subprocess.run(
        [sys.executable, "run.py", "--stages", "create_dataset", "infer", "measure"]
        + ["--training_config", "conf/training.yaml"]
        + ["--inference_config", "conf/inference.yaml", "conf/where.yaml"]
        + ["--metrics_config", "conf/metrics.yaml"],
        cwd=recipe,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    root = recipe / "exp/pocketsphinx/inference"
    table = re.sub(r"\| \d+\.\d{3} \|", "|", (root / "metrics.md").read_text())
    assert "| total | 7/7 | 22 | 4.55 |" in table
    files = [path for end in ("scp", "trn", "alignment.txt") for path in root.glob(f"*/*{end}")]
    assert len(files) == 2 * 5
    return table, {path.relative_to(root): path.read_bytes() for path in files}


def assert_same_results(tmp_path, parallel):
    """A recipe has the results of a run in one process if only its `parallel:` block differs."""
    here = results_of(tmp_path / "here", {"env": "local", "n_workers": 1})
    assert results_of(tmp_path / "there", parallel) == here
    (jobs,) = tmp_path.glob("there/**/test/logs")
    assert [*jobs.glob("worker.*.log")], "no worker was started"
