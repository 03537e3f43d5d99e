"""`env: local_gpu`: each worker sees one GPU, from the first line of the program on.

No GPU is needed: what a worker sees is decided by an environment variable.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from workloads import Provider, note, notes

from espnet3.errors import ConfigError
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.parallel import set_parallel

# As `nvidia-smi -L` of two GPUs, the second of which is cut into two slices.
LISTED = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa11)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bb22)
  MIG 3g.40gb     Device  0: (UUID: MIG-cc33)
  MIG 3g.40gb     Device  1: (UUID: MIG-dd44)
"""


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program of that name on the PATH, and nothing into CUDA_VISIBLE_DEVICES."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def write(text, status=0):
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return write


class Devices(BaseRunner):
    """Return the GPU that this process sees; the first process at item 0 is killed."""

    @staticmethod
    def forward(idx, log, **env):
        note(log, "devices", f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']}")
        if idx == 0 and len(notes(log, "killed")) == 0:
            note(log, "killed", os.getpid())
            os.kill(os.getpid(), signal.SIGKILL)
        return os.environ["CUDA_VISIBLE_DEVICES"]


def test_each_worker_has_a_gpu_and_its_successor_has_the_same(nvidia_smi, log, monkeypatch):
    nvidia_smi(LISTED)
    set_parallel({"env": "local_gpu", "n_workers": 3, "lease_seconds": 1e-6})
    seen = Devices(Provider(log))(range(60))
    assert set(seen) <= {"GPU-aa11", "MIG-cc33", "MIG-dd44"}
    devices = dict(line.split() for line in notes(log, "devices"))
    killed = devices.pop(notes(log, "killed")[0])
    assert len(set(devices.values())) == len(devices)  # no two processes share one
    assert seen[0] in devices.values()
    assert killed in {"GPU-aa11", "MIG-cc33", "MIG-dd44"}
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_program_sees_its_gpu_when_it_is_imported(tmp_path, log):
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.parallel import set_parallel
from workloads import Provider

AT_IMPORT = os.environ["CUDA_VISIBLE_DEVICES"]

class Imported(BaseRunner):
    @staticmethod
    def forward(idx, **env):
        return sys.modules["__mp_main__"].AT_IMPORT + " " + os.environ["CUDA_VISIBLE_DEVICES"]

if __name__ == "__main__":
    set_parallel({{"env": "local_gpu", "n_workers": 1}})
    print(set(Imported(Provider({str(log)!r}))(range(4))))
"""
    )
    done = subprocess.run(
        [sys.executable, program],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "5,7"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "{'5 5'}\n"
    assert "1 of the 2 GPUs that are visible here are used" in done.stderr


def test_workers_share_gpus_in_turn(log, monkeypatch, caplog):
    class Waits(BaseRunner):
        """Return the GPU, when all workers are there."""

        @staticmethod
        def forward(idx, log):
            device = os.environ["CUDA_VISIBLE_DEVICES"]
            note(log, "devices", f"{os.getpid()} {device}")
            while len({*notes(log, "devices")}) < 3:
                time.sleep(0.01)
            return device

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    block = {"env": "local_gpu", "n_workers": 3, "workers_per_gpu": 2, "lease_seconds": 1e-6}
    set_parallel(block)
    assert set(Waits(Provider(log))(range(12))) == {"4", "6"}
    devices = sorted(line.split()[1] for line in {*notes(log, "devices")})
    assert devices == ["4", "4", "6"]
    assert "3 workers on 2 GPUs, where workers_per_gpu: 2 has room for 4" in caplog.text


def test_more_workers_than_share_the_gpus_are_refused(log, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    set_parallel({"env": "local_gpu", "n_workers": 5, "workers_per_gpu": 2})
    with pytest.raises(ConfigError) as caught:
        Devices(Provider(log))(range(4))
    told = "5 workers 1/2 of a GPU (workers_per_gpu), and only 2 GPUs are visible here"
    assert told in str(caught.value)
    assert str(caught.value).endswith("n_workers may be 4 at most")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("local", "with env: local all workers see the same GPUs"),
        ("slurm", "with env: slurm one job is one worker, .* a share of a GPU"),
    ],
)
def test_sharing_is_refused_where_nobody_obeys_it(env, words):
    block = {"env": env, "n_workers": 2, "workers_per_gpu": 2, "options": {"memory": "1GB"}}
    if env == "local":
        del block["options"]
    with pytest.raises(ConfigError, match=words):
        set_parallel(block)


@pytest.mark.parametrize(
    ("visible", "words"),
    [
        ("0,1,-1,3", "only 2 GPUs are visible here (CUDA_VISIBLE_DEVICES=0,1,-1,3)"),
        ("0", "only 1 GPU is visible here (CUDA_VISIBLE_DEVICES=0)"),
        ("", "no GPU is visible here (CUDA_VISIBLE_DEVICES=)"),
    ],
)
def test_too_many_workers_are_refused_with_the_number_of_gpus(log, monkeypatch, visible, words):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    set_parallel({"env": "local_gpu", "n_workers": 3})
    with pytest.raises(ConfigError) as caught:
        Devices(Provider(log))(range(4))
    assert f"gives each of 3 workers a GPU of its own, and {words}" in str(caught.value)


def test_machine_without_gpus_says_who_was_asked(log, nvidia_smi):
    nvidia_smi("NVIDIA-SMI has failed: no driver is loaded\n", status=9)
    set_parallel({"env": "local_gpu", "n_workers": 1})
    with pytest.raises(ConfigError, match="nvidia-smi -L: NVIDIA-SMI has failed: no driver"):
        Devices(Provider(log))(range(4))
