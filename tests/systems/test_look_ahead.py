"""`--dry_run`, `--canary` and `espnet3 plan`: what is known of a run before it is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from espnet3.systems.base.system import BaseSystem

REPOSITORY = Path(__file__).parents[2]

CODE = """
import os, signal
from pathlib import Path

class Model:
    def __init__(self, beam=1):
        if Path("no_model").exists():
            raise RuntimeError("no weights here")
    def __call__(self, x):
        if isinstance(x, list):
            return [self(one) for one in x]
        bad = Path(f"bad.{x}")
        if bad.exists() and bad.read_text() == "kill":
            print("about to crash", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if bad.exists():
            raise ValueError(f"cannot decode {x}")
        return {"hyp": f"TEXT {x}", "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}
"""
DATASET = """
class Dataset:
    def __init__(self, n, start=0):
        self.n, self.start = n, start
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        return {"utt_id": self.utt_id(i), "x": self.start + i}
    def utt_id(self, i):
        return f"u{i}"
    def durations(self):
        return [60.0] * self.n
"""
INFERENCE = """
recipe_dir: .
dataset:
  test:
    - {name: clean, data_src_args: {n: 3}}
    - {name: other, data_src_args: {n: 5, start: 10}}
model: {_target_: look_code.Model, beam: 1}
input_key: x
output_keys: [hyp]
"""
RUN_PY = """
from espnet3.systems.base.system import BaseSystem
from espnet3.systems.launch import launch

if __name__ == "__main__":
    launch(BaseSystem)
"""
A = ("--stages", "infer", "--inference_config", "conf/decode.yaml", "exp_tag=tag")
PLACE = Path("exp/tag/decode")


@pytest.fixture
def conf(recipe, monkeypatch):
    recipe.write("look_code.py", CODE)
    recipe.write("dataset/__init__.py", DATASET)
    recipe.write("conf/decode.yaml", INFERENCE)
    recipe.write("run.py", RUN_PY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(recipe.root)
    monkeypatch.delitem(sys.modules, "look_code", raising=False)
    return recipe


def files(root=Path(".")):
    """Every file of a recipe with what tells of a change."""
    found = (path for path in root.rglob("*") if "__pycache__" not in path.parts)
    return {path: path.stat().st_mtime_ns for path in found if path.is_file()}


def section(text, name):
    """The lines about a test set."""
    return text.partition(f"  test set {name}\n")[2].partition("\n  test set")[0]


def espnet3(*words):
    return subprocess.run(
        [sys.executable, "-m", "espnet3", *words],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )


# --dry_run


def test_every_test_set_has_its_plan_and_nothing_is_done(conf, run):
    assert run(BaseSystem, *A, "--limit", "2").status == 0
    conf.write("no_model", "")  # whoever built the model would fail
    before = files()
    outcome = run(BaseSystem, *A, "--dry_run", "+batch_size=2")
    assert outcome.status == 0, outcome.err
    assert files() == before
    clean, other = section(outcome.out, "clean"), section(outcome.out, "other")
    assert "    items: 3, 2 batches of 2\n    batches: by count, as the run that is there" in clean
    assert "    done: 2 in 1 batch\n    left: 1 in 1 batch\n" in clean
    assert "    items: 3, 2 batches of 2\n    batches: by length\n    padding: " in other
    assert "    left: 3 in 2 batches\n    workers: 1\n    time: about " in other
    assert "(180 s of audio" in other or "(3 min of audio" in other
    assert "  workers: in this process, without workers\n" in outcome.out


def test_nothing_left_means_no_workers(conf, run):
    assert run(BaseSystem, *A).status == 0
    outcome = run(BaseSystem, *A, "--dry_run", "parallel.n_workers=2")
    assert outcome.status == 0
    assert outcome.out.count("left: nothing (finished; it is merged again)") == 2
    assert "  workers: none is started, for nothing is left to do\n" in outcome.out


def test_a_run_that_would_be_refused_is_status_1(conf, run):
    assert run(BaseSystem, *A).status == 0
    outcome = run(BaseSystem, *A, "--dry_run", "model.beam=2")
    assert outcome.status == 1
    assert "would be refused: " in section(outcome.out, "clean")
    assert "model.beam: 1 -> 2" in outcome.out
    assert (
        "error: as it stands, this would fail: test set clean would be refused; test set other"
    ) in outcome.err


def test_data_that_is_not_there_yet_is_no_error_if_it_will_be_made(conf, run):
    conf.write("dataset/__init__.py", "raise FileNotFoundError('no wavs')")
    conf.write("conf/train.yaml", "dataset: {train: [{}]}\n")
    outcome = run(BaseSystem, *A, "--dry_run", "parallel.n_workers=2")
    assert outcome.status == 1
    assert "plan: not known now: " in section(outcome.out, "clean")
    assert "no wavs" in outcome.out
    assert "error: as it stands, this would fail: test set clean cannot be planned" in outcome.err
    words = ["create_dataset", *A[1:], "--training_config", "conf/train.yaml", "--dry_run"]
    outcome = run(BaseSystem, "--stages", *words, "parallel.n_workers=2")
    assert outcome.status == 0, outcome.err
    assert "workers: 2 processes on this machine" in outcome.out


def test_an_infer_of_its_own_gives_its_config_or_has_no_plan(conf, run):
    class Own(BaseSystem):
        def infer(self):
            raise NotImplementedError

    class Batches(BaseSystem):
        def _infer_config(self):
            config = super()._infer_config().copy()
            config.batch_size = 3
            return config

    outcome = run(Own, *A, "--dry_run")
    assert outcome.status == 0
    assert "plan: not known, as Own has an infer() of its own" in outcome.out
    assert "5, 2 batches of 3" in run(Batches, *A, "--dry_run").out


SLURM = {"sbatch": "exit 1", "squeue": "", "scancel": "", "sinfo": "echo 'cpu*|2:00:00'"}
ON_SLURM = (
    *("+parallel.env=slurm", "parallel.n_workers=2"),
    "+parallel.options={memory: 1GB, interface: lo}",
)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Give programs with the names of Slurm's."""
    place = tmp_path / "slurm"
    place.mkdir()

    def write(**programs):
        for name, text in programs.items():
            (place / name).write_text(f"#!/bin/sh\n{text}\n")
            (place / name).chmod(0o755)

    write(**SLURM)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return write


def test_the_job_script_is_shown(conf, run, slurm):
    outcome = run(BaseSystem, *A, "--dry_run", *ON_SLURM)
    assert outcome.status == 0, outcome.err
    logs = conf.root / PLACE / "clean/logs"
    script = outcome.out.partition("submitted by sbatch; likewise slurm-1:\n\n")[2]
    assert script.startswith("#!/usr/bin/env bash\n")
    for line in ("#SBATCH -t 2:00:00", f"#SBATCH -o {logs}/espnet3-%J.out", "#SBATCH --mem=954M"):
        assert line in script.splitlines()
    assert "worker.entry tls://<driver>:<port> --name slurm-0" in script


def test_a_host_without_the_scheduler_is_status_1(conf, run, monkeypatch):
    monkeypatch.setenv("PATH", str(conf.root))
    walltime = ("+parallel.options.walltime=60",)
    outcome = run(BaseSystem, *A, "--dry_run", *ON_SLURM, *walltime)
    assert outcome.status == 1
    assert "cannot be started from here: parallel.env: slurm submits jobs with `sbatch`" in (
        outcome.out
    )
    assert "done: 0" in section(outcome.out, "other")


# --canary


def canary(run, *argv):
    outcome = run(BaseSystem, *A, "--canary", *argv)
    return outcome, outcome.out.splitlines()


def nothing_else_is_there():
    return [path.name for path in PLACE.iterdir()] == []


def test_one_item_is_done_here_and_nothing_is_kept(conf, run):
    outcome, lines = canary(run, "output_keys=[hyp,pid]")
    assert outcome.status == 0, outcome.err
    assert lines[0] == "canary: test set clean, u0 (position 0), on env: local"
    assert re.fullmatch(r"  waited: \d+\.\d s before the env was begun", lines[1])
    assert re.match(rf"  worker: on {os.uname().nodename}, pid {os.getpid()}", lines[2])
    assert re.fullmatch(r"  env: built in \d+\.\d s", lines[3])
    assert re.fullmatch(r"  forward: [\d.e-]+ s", lines[4])
    assert lines[5:] == ["  hyp: TEXT 0", f"  pid: {os.getpid()}"]
    assert nothing_else_is_there()


def test_a_worker_process_has_the_threads_that_it_would_have(conf, run, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    outcome, lines = canary(run, "output_keys=[hyp,pid,threads]", "parallel.n_workers=1000")
    assert outcome.status == 0, outcome.err
    assert "  threads: 1" in lines
    assert "OMP_NUM_THREADS" not in os.environ
    pid = next(line for line in lines if line.startswith("  pid: ")).split()[1]
    assert pid != str(os.getpid())
    assert any(f", pid {pid}" in line for line in lines)


def test_it_is_the_first_that_is_not_done_and_leaves_the_run_alone(conf, run):
    assert run(BaseSystem, *A, "--limit", "3").status == 0
    before = files(PLACE)
    outcome, lines = canary(run, "+batch_size=2")
    assert lines[0] == "canary: test set other, u3 (position 3), on env: local"
    assert "  hyp: TEXT 13" in lines
    assert files(PLACE) == before
    assert run(BaseSystem, *A).status == 0
    outcome, lines = canary(run)
    assert "  hyp: TEXT 0" in lines


def test_a_batch_is_one_unit(conf, run):
    outcome, lines = canary(run, "+batch_size=2")
    assert lines[0] == "canary: test set clean, u0, u1 (position 0), on env: local"
    assert lines[-2:] == ["  hyp: TEXT 0", "  hyp: TEXT 1"]


def test_an_item_can_be_named(conf, run):
    outcome, lines = canary(run, "--debug_item", "u4")
    assert lines[0] == "canary: test set other, u4 (position 4), on env: local"
    assert lines[-1] == "  hyp: TEXT 14"
    outcome, _ = canary(run, "--debug_item", "v4")
    assert outcome.status == 2
    assert "no test set has an utterance 'v4'" in outcome.err


def kept(outcome):
    return Path(re.search(r"kept, to look at: (.+)", outcome.err)[1])


def test_failing_item_is_status_1_with_its_traceback_and_the_command(conf, run):
    conf.write("bad.12", "raise")
    outcome, lines = canary(run, "--debug_item", "#2", "dataset.test.0.data_src_args.n=1")
    assert outcome.status == 1
    assert 'raise ValueError(f"cannot decode {x}")' in outcome.err
    *_, message, how, command = outcome.err.splitlines()
    assert message == (
        "error: the canary failed: u2 (position 2) of test set other in forward: ValueError: "
        "cannot decode 12"
    )
    assert "To do the first one alone, under a debugger" in how
    assert command.endswith("--debug_item u2")
    assert any(line.startswith("  env: built in") for line in lines)
    assert (kept(outcome) / "run/failures.jsonl").exists()


def test_item_that_kills_its_worker_shows_its_log(conf, run):
    conf.write("bad.0", "kill")
    outcome, _ = canary(run, "parallel.n_workers=2")
    assert outcome.status == 1
    assert "  about to crash\n" in outcome.err
    assert "WorkerKilled: 1 worker died in this item (killed by signal 9 (SIGKILL))" in outcome.err
    assert kept(outcome).is_dir()


@pytest.mark.parametrize("n_workers", [1, 2])
def test_env_that_cannot_be_built_is_status_1(conf, run, n_workers):
    conf.write("no_model", "")
    outcome, lines = canary(run, f"parallel.n_workers={n_workers}")
    assert outcome.status == 1
    assert "error: InferenceProvider could not build its env in " in outcome.err
    assert 'raise RuntimeError("no weights here")' in outcome.err
    assert lines[-1].startswith("  worker: on ")


def test_env_that_cannot_be_built_is_told_as_in_a_run(conf, run):
    conf.write("no_model", "")
    (of_run, of_canary) = (
        outcome.err.rpartition("\nerror: ")[2] for outcome in (run(BaseSystem, *A), canary(run)[0])
    )
    assert of_run == of_canary != ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--limit", "1"), "leave --limit out"),
        (("--dry_run",), "--dry_run runs nothing; leave one of the two out"),
        (("runner._target_=builtins.dict",), "dict is no BaseRunner"),
    ],
)
def test_wrong_usage_is_status_2(conf, run, argv, message):
    outcome, _ = canary(run, *argv)
    assert outcome.status == 2
    assert message in outcome.err
    assert not PLACE.exists()


def test_infer_must_be_among_the_stages(conf, run):
    conf.write("conf/metrics.yaml", "metrics: []\n")
    words = ("--inference_config", "conf/decode.yaml", "--metrics_config", "conf/metrics.yaml")
    outcome = run(BaseSystem, "--stages", "measure", *words, "--canary", "exp_tag=tag")
    assert outcome.status == 2
    assert "infer, which is not among the stages" in outcome.err
    outcome = run(BaseSystem, "--stages", "infer", *words[:2], "--canary", "exp_tag=tag")
    assert outcome.status == 0


def test_memory_of_a_gpu_is_told_where_torch_is(conf, run):
    conf.write("look_code.py", CODE + TORCH)
    outcome, lines = canary(run)
    assert "  memory on cuda:1: 2.50 GiB at most" in lines
    sys.modules.pop("torch")


TORCH = """
import sys, types
sys.modules["torch"] = torch = types.ModuleType("torch")
torch.cuda = types.SimpleNamespace(
    is_available=lambda: False,
    is_initialized=lambda: True,
    device_count=lambda: 2,
    max_memory_allocated=lambda i: i * 5 << 29,
)
"""


def test_a_job_is_a_real_worker(conf, run, slurm, tmp_path):
    slurm(sbatch=f'cp "$1" {tmp_path}/job.sh\nSLURM_JOB_ID=4711 setsid sh {tmp_path}/job.sh '
                 f'> {tmp_path}/job.txt 2>&1 &\necho Submitted batch job 4711',
          squeue="echo '4711|RUNNING|None'")  # fmt: skip
    outcome, lines = canary(run, *ON_SLURM)
    assert outcome.status == 0, f"{outcome.err}\n{(tmp_path / 'job.txt').read_text()}"
    assert lines[0] == "canary: test set clean, u0 (position 0), on env: slurm"
    assert re.fullmatch(rf"  worker: on {os.uname().nodename}, pid \d+, job 4711", lines[2])
    assert lines[-1] == "  hyp: TEXT 0"


def test_a_refused_job_is_status_1_in_the_schedulers_words(conf, run, slurm):
    slurm(sbatch="echo sbatch: error: no such account >&2; exit 1")
    outcome, lines = canary(run, *ON_SLURM)
    assert outcome.status == 1
    assert "error: slurm refuses the job: sbatch: error: no such account" in outcome.err
    assert lines[1:] == ["  no worker began"]


# espnet3 plan


def test_plan_is_the_dry_run_of_the_recipe_in_this_directory(conf):
    done = espnet3("plan", *A)
    assert done.returncode == 0, done.stderr
    assert "    left: 3\n" in section(done.stdout, "clean")
    assert not PLACE.exists()
    done = espnet3("plan", "--stages", "infer", "--canary", *A[2:], "parallel.n_workers=2")
    assert done.returncode == 0, done.stderr
    assert "  hyp: TEXT 0\n" in done.stdout
    assert espnet3("plan", "--stages", "infr").returncode == 2


def test_a_directory_without_recipe_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = espnet3("plan", "--stages", "infer")
    assert done.returncode == 2
    assert f"there is no run.py in {tmp_path}" in done.stderr


@pytest.mark.parametrize("words", [("--help",), ("plan", "--help"), ("--version",)])
def test_help_loads_nothing_slow(words):
    script = (
        "import sys; from espnet3.commands.main import main\n"
        f"try: main({list(words)!r}, prog_name='espnet3')\n"
        "except SystemExit as end: print(end.code)\n"
        "print({'dask', 'distributed', 'torch', 'hydra', 'numpy', 'omegaconf'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-2:] == ["0", "set()"], done.stderr
