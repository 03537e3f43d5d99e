"""On a real GPU: a worker has it from its first line on; batches that do not fit are halved.

`make test-gpu` runs them where a GPU and PyTorch are.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

PROGRAM = """
import json, os, sys
sys.path.insert(0, {workloads!r})
import torch
from espnet3.errors import ConfigError
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.parallel import set_parallel
from workloads import Provider

# Touches CUDA when workers import this file, as programs do.
AT_IMPORT = [torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")]


class Sums(BaseRunner):
    @staticmethod
    def forward(idx, log, **env):
        seen = sys.modules["__mp_main__"].AT_IMPORT
        x = torch.full((1 << 20,), float(idx), device="cuda")
        return [seen, float(x.mean()), str(torch.cuda.get_device_properties(0).uuid)]


class Large(BaseRunner):
    \"\"\"An item takes 0.3 of the memory: batches of 8 and 4 do not fit, those of 2 do.\"\"\"

    @staticmethod
    def forward(indices, log, **env):
        _, total = torch.cuda.mem_get_info()
        size = int(0.3 * total)
        kept = [torch.zeros(size, dtype=torch.uint8, device="cuda") for _ in indices]
        with open(os.path.join(log, "batches"), "a") as file:
            file.write(f"{{len(kept)}}\\n")
        return [int(i) for i in indices]


if __name__ == "__main__":
    log = {log!r}
    n = torch.cuda.device_count()
    set_parallel({{"env": "local_gpu", "n_workers": n}})
    sums = Sums(Provider(log))(range(40))
    large = Large(Provider(log), batch_size=8)(range(16))
    set_parallel({{"env": "local_gpu", "n_workers": n + 1}})
    try:
        Sums(Provider(log))(range(4))
    except ConfigError as error:
        refusal = str(error)
    print(json.dumps([n, sums, large, refusal]))
"""


def test_local_gpu_and_memory_that_runs_out(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU is visible to PyTorch here")
    program = tmp_path / "program.py"
    workloads = str(Path(__file__).parents[1] / "parallel")
    program.write_text(PROGRAM.format(workloads=workloads, log=str(tmp_path)))
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    n, sums, large, refusal = json.loads(done.stdout.splitlines()[-1])
    assert [mean for _, mean, _ in sums] == [float(i) for i in range(40)]
    # Each process saw one GPU when it imported the program.
    assert {count for (count, _), _, _ in sums} == {1}
    assert all(device.startswith(("GPU-", "MIG-")) for (_, device), _, _ in sums)
    assert len({uuid for _, _, uuid in sums}) <= n
    assert large == [*range(16)]
    assert set((tmp_path / "batches").read_text().split()) == {"2"}
    assert f"of {n + 1} workers a GPU of its own, and only {n} GPU" in refusal
