"""On a real GPU: memory that runs out, a device-side assert, workers that share a GPU.

`make test-gpu` runs them where a GPU and PyTorch are; each has a twin without them in
`tests/parallel` (`test_memory.py`, `test_cuda_errors.py`, `test_local_gpu.py`).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]

HEAD = """
import json, os, sys, time
import torch
from espnet3.errors import ConfigError, RunFailed, RunStopped
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.parallel import set_parallel
from workloads import Provider, note, notes

LOG = os.environ["TEST_LOG"]
OUT = os.environ["TEST_OUT"]
"""


@pytest.fixture
def run(tmp_path):
    """Run a program with the GPU of lowest number alone; gives (exit status, last line, log)."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("no GPU is visible to PyTorch here")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    paths = [str(ROOT), str(ROOT / "tests" / "parallel"), os.environ.get("PYTHONPATH", "")]
    environ = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": visible,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TEST_LOG": str(tmp_path / "log"),
        "TEST_OUT": str(tmp_path / "out"),
    }
    (tmp_path / "log").mkdir()
    program = tmp_path / "program.py"

    def run(text):
        program.write_text(HEAD + text)
        done = subprocess.run(
            [sys.executable, program],
            env=environ, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        assert lines, done.stderr
        return done.returncode, json.loads(lines[-1]), done.stderr

    run.log = tmp_path / "log"
    run.out = tmp_path / "out"
    return run


def tries(run):
    lines = (run.log / "tries").read_text().splitlines()
    return [tuple(line.split()) for line in lines]


MEMORY = """
class Holding(Provider):
    def build_env_local(self):
        _, total = torch.cuda.mem_get_info()
        held = torch.zeros(total // 2, dtype=torch.uint8, device="cuda")
        return {**super().build_env_local(), "held": held, "total": total}


class Large(BaseRunner):
    \"\"\"A padded second takes 2 % of the memory, of which half is held: 25 s do not fit.\"\"\"

    @staticmethod
    def forward(indices, held, total, log, **env):
        padded = 10 * len(indices)
        note(log, "tries", f"begun {padded}")
        parts = [torch.ones(total // 50, dtype=torch.uint8, device="cuda") for _ in range(padded)]
        sums = torch.stack([part[:1000].sum() for part in parts]).tolist()
        note(log, "tries", f"done {padded}")
        return [[int(i), int(sums[0]), int(held[0])] for i in indices]


if __name__ == "__main__":
    set_parallel({"env": "local_gpu", "n_workers": 1})
    runner = Large(Holding(LOG), output_dir=OUT, batch_size=8)
    print(json.dumps(runner(range(32), [10.0] * 32)))
"""


def test_batches_are_halved_where_memory_is_short(run):
    status, results, said = run(MEMORY)
    assert status == 0, said
    assert results == [[i, 1000, 0] for i in range(32)]
    begun = [padded for what, padded in tries(run) if what == "begun"]
    done = [padded for what, padded in tries(run) if what == "done"]
    assert begun == ["80", "40", *["20"] * 16]  # the limit was found once
    assert done == ["20"] * 16
    assert said.count("out of memory with 8 items of up to 10.0 s (80 padded seconds) on GPU") == 1
    assert "going on with at most 20; set `run: {batch_seconds: 18}`" in said
    assert not (run.out / "failures.jsonl").exists()


EMBEDDING = """
class Embedding(Provider):
    def build_env_local(self):
        torch.manual_seed(0)
        table = torch.nn.Embedding(20, 4, device="cuda")
        return {**super().build_env_local(), "table": table}


class Look(BaseRunner):
    @staticmethod
    def forward(idx, table, log, **env):
        index = torch.tensor([999 if idx == 5 else idx], device="cuda")
        with torch.inference_mode():
            row = table(index).cpu()
        return [idx, list(row.shape)]


if __name__ == "__main__":
    set_parallel(SETTINGS)
    try:
        print(json.dumps(["done", Look(Embedding(LOG), output_dir=OUT)(range(12))]))
    except (RunFailed, RunStopped) as error:
        positions = [f["position"] for f in getattr(error, "failures", [])]
        print(json.dumps([type(error).__name__, str(error), positions]))
"""


def test_device_side_assert_costs_its_item_alone(run):
    block = '{"env": "local_gpu", "n_workers": 1, "on_error": "skip"}'
    status, (what, results), said = run(EMBEDDING.replace("SETTINGS", block))
    assert (status, what) == (0, "done"), said
    assert results == [[i, [1, 4]] for i in range(12) if i != 5]
    failures = [json.loads(line) for line in (run.out / "failures.jsonl").read_text().splitlines()]
    assert [f["position"] for f in failures] == [5, 5]
    assert [f["error"] for f in failures][1] == "WorkerKilled"
    assert all("device-side assert triggered" in f["message"] for f in failures)
    assert "cannot use its GPU any more" in said


def test_device_side_assert_in_process_stops_the_run_and_the_next_starts_go_on(run):
    program = EMBEDDING.replace("SETTINGS", '{"env": "local", "n_workers": 1}')
    for _ in range(2):
        _, (what, text, _), said = run(program)
        assert what == "RunStopped", said
        assert "cannot use its GPU any more after a CUDA error in utt5" in text
        assert "5 of 12 items are done" in text
    _, (what, text, positions), said = run(program)
    assert (what, positions) == ("RunFailed", [5]), said
    assert "11 are done" in text


SHARED = """
class Both(BaseRunner):
    \"\"\"Each worker waits until the other is there, too.\"\"\"

    @staticmethod
    def forward(idx, log, **env):
        uuid = str(torch.cuda.get_device_properties(0).uuid)
        if not notes(log, f"pid.{os.getpid()}"):
            note(log, f"pid.{os.getpid()}", uuid)
            note(log, "pids", os.getpid())
        deadline = time.monotonic() + 120
        while len(notes(log, "pids")) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        x = torch.full((1000,), float(idx), device="cuda")
        return [float(x.mean()), torch.cuda.device_count(), uuid, os.getpid()]


if __name__ == "__main__":
    block = {"env": "local_gpu", "workers_per_gpu": 2, "lease_seconds": 1e-6}
    set_parallel({**block, "n_workers": 2})
    results = Both(Provider(LOG))(range(20))
    set_parallel({**block, "n_workers": 3})
    try:
        Both(Provider(LOG))(range(4))
    except ConfigError as error:
        print(json.dumps([results, str(error)]))
"""


def test_two_workers_share_one_gpu(run):
    status, (results, refusal), said = run(SHARED)
    assert status == 0, said
    assert [mean for mean, *_ in results] == [float(i) for i in range(20)]
    assert {n for _, n, _, _ in results} == {1}
    assert len({uuid for _, _, uuid, _ in results}) == 1
    assert len({pid for *_, pid in results}) == 2
    assert "3 workers 1/2 of a GPU" in refusal
    assert "n_workers may be 2 at most" in refusal
