"""`espnet3 doctor`, as it is called, where something is wrong."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import espnet3
from espnet3.commands.main import main
from espnet3.doctor import commands, shared, worker
from espnet3.doctor.finding import Level
from espnet3.doctor.machine import Machine
from espnet3.parallel.backends import watch


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A directory without any config."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(watch, "SETTLE", 0.0)
    return tmp_path


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Put programs before all others on the PATH."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")

    def write(**texts):
        for name, text in texts.items():
            (place / name).write_text(f"#!/bin/sh\n{text}\n")
            (place / name).chmod(0o755)
        return place

    return write


def config(block):
    Path("parallel.yaml").write_text(json.dumps({"parallel": block}))
    return "--parallel_config", "parallel.yaml"


def examine(*words):
    """Call it; the checks by name, and the status."""
    done = CliRunner().invoke(main, ["doctor", "--json", *words])
    assert done.exit_code in (0, 1), done.output
    told = json.loads(done.stdout)
    assert told["ok"] == (done.exit_code == 0)
    return {check["check"]: check for check in told["checks"]}, done.exit_code


SLURM = {"env": "slurm", "options": {"memory": "1GB", "walltime": "1:00:00"}}
SLURM_PROGRAMS = {
    "sbatch": "echo slurm 22.05.8",
    "squeue": "exit 0",
    "scancel": "exit 0",
    "sinfo": "exit 0",
}


def test_this_machine_is_well_and_the_table_says_so(here):
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0] == "env: local, n_workers: 1 (no config, so env: local)"
    assert lines[-1].endswith(" 0 problems")
    assert any(line.startswith(f"ok       directory of runs: {here} (") for line in lines)
    assert list(here.iterdir()) == []


def test_the_words_of_run_py_choose_backend_and_directory(here, programs):
    programs(**SLURM_PROGRAMS)
    Path("conf").mkdir()
    Path("conf/inference.yaml").write_text(f"exp_dir: {here}/exp\nparallel: {{n_workers: 3}}\n")
    Path("conf/slurm.yaml").write_text(json.dumps({"parallel": SLURM}))
    files = ("--inference_config", "conf/inference.yaml", "conf/slurm.yaml")
    checks, status = examine("--stages", "infer", *files, "parallel.n_workers=5")
    assert status == 0
    assert checks["scheduler version"]["seen"] == "slurm 22.05.8 (`sbatch --version`)"
    assert checks["open files"]["seen"].startswith("5 workers may need ")
    (here / "exp").mkdir()
    assert examine(*files)[0]["directory of runs"]["seen"].startswith(f"{here}/exp (")
    assert examine()[0]["open files"]["seen"].startswith("3 workers ")  # conf/inference.yaml


def test_a_wrong_block_is_no_finding_but_an_error(here):
    words = config({"env": "slum"})
    done = CliRunner().invoke(main, ["doctor", *words])
    assert done.exit_code == 2
    assert "parallel.yaml: parallel.env: unknown env 'slum'; did you mean slurm?" in done.output
    assert CliRunner().invoke(main, ["doctor", "parallel.n_workers=2"]).exit_code == 2


@pytest.mark.parametrize(
    ("program", "text", "words"),
    [
        # A wrapper that leaves a child behind, which keeps the pipes open.
        ("squeue", "sleep 600", "`squeue -h -o %i` did not end within 0.5 s"),
        ("squeue", "echo down >&2; exit 1", "`squeue -h -o %i` ended with status 1 and said: down"),
        ("sbatch", "echo no key >&2; exit 3", "ended with status 3 and said: no key"),
    ],
)
def test_a_scheduler_command_that_hangs_or_fails(programs, monkeypatch, program, text, words):
    monkeypatch.setattr(commands, "PATIENCE", 0.5)
    programs(**{**SLURM_PROGRAMS, program: text})
    checks, status = examine(*config(SLURM))
    check = checks["scheduler answer" if program == "squeue" else "scheduler version"]
    assert status == 1
    assert check["level"] == Level.PROBLEM
    assert words in check["seen"]
    assert check["advice"]
    assert "job" not in checks  # nothing more is asked of it


def test_scheduler_commands_that_are_missing_are_named(programs, monkeypatch):
    monkeypatch.setenv("PATH", str(programs(sbatch="echo slurm 22.05.8")))
    checks, status = examine(*config(SLURM))
    assert status == 1
    assert checks["scheduler commands"]["seen"].endswith(": squeue, scancel, sinfo")


def test_a_job_that_the_scheduler_would_not_take(programs):
    programs(**{**SLURM_PROGRAMS, "sinfo": "echo cpu"})
    block = {**SLURM, "options": {**SLURM["options"], "queue": "cpus"}}
    checks, status = examine(*config(block))
    assert status == 1
    assert "slurm has no queue 'cpus'; did you mean cpu?" in checks["job"]["seen"]


def test_every_scheduler_is_asked_by_commands_of_its_own(programs):
    from espnet3.parallel.backends.jobqueue import SCHEDULERS, cluster_class

    for env, asked in commands.SCHEDULERS.items():
        names = {asked.version[0], asked.answers[0], *asked.others}
        job = cluster_class(env).job_cls
        assert {job.submit_command.split()[0], job.cancel_command.split()[0]} <= names
    assert commands.SCHEDULERS.keys() == SCHEDULERS.keys()


def test_ssh_hosts_are_tried_one_by_one(programs):
    ssh = 'case "$*" in *-V) echo OpenSSH_9.2 >&2;; *bad*) echo no route >&2; exit 255;; esac'
    programs(ssh=ssh)
    checks, status = examine(*config({"env": "ssh", "options": {"hosts": ["good", "bad"]}}))
    assert status == 1
    assert checks["ssh version"]["seen"].startswith("OpenSSH_9.2 ")
    assert checks["ssh good"]["level"] == Level.OK
    assert checks["ssh bad"]["seen"].endswith("ended with status 255 and said: no route")


def test_a_cluster_of_kubernetes_that_is_not_there(here):
    block = {"image": "x", "memory": "1GB", "kubeconfig": str(here / "none")}
    checks, status = examine(*config({"env": "kube", "options": block}))
    assert status == 1
    assert "kube finds no cluster" in checks["Kubernetes"]["seen"]


def in_process_with(limits, *words):
    """Call it in a process of its own, which has some limits."""
    root = str(Path(espnet3.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'{limits} exec "$@"',
            "sh",
            sys.executable,
            "-m",
            "espnet3",
            "doctor",
            *words,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=60,
        check=False,
    )
    return done.stdout, done.returncode


def test_fewer_open_files_than_the_workers_need():
    out, status = in_process_with("ulimit -n 400;", *config({"n_workers": 16}))
    assert status == 1
    assert "problem  open files: 16 workers may need " in out
    assert "and 400 at most (`ulimit -Hn`)" in out
    assert "-> set parallel.n_workers to " in out


def test_fewer_processes_than_the_workers_need(here, monkeypatch):
    from espnet3.doctor import limits
    from espnet3.parallel.config import ParallelConfig

    monkeypatch.setattr(limits, "_is_exempt", lambda: False)  # as for anybody but root
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (limits._threads_of_user() + 150, hard))
    try:
        found = {f.check: f for f in limits.look(ParallelConfig(n_workers=16))}
        assert found["processes"].level is Level.PROBLEM
        assert "set parallel.n_workers to 2 at most" in found["processes"].advice
        found = {f.check: f for f in limits.look(ParallelConfig(n_workers=1))}
        assert found["processes"].level is Level.OK
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))


def test_more_workers_than_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    checks, status = examine(*config({"env": "local_gpu", "n_workers": 3}))
    assert status == 1
    assert checks["GPUs"]["advice"].startswith("set parallel.n_workers to 2 at most")
    assert examine(*config({"env": "local_gpu", "n_workers": 2}))[1] == 0


def test_a_directory_that_cannot_be_written_to():
    Path("inference.yaml").write_text("inference_dir: /proc/self/exp\n")  # for root, too
    checks, status = examine("--inference_config", "inference.yaml")
    assert status == 1
    assert checks["directory of runs"]["level"] == Level.PROBLEM
    assert checks["directory of runs"]["seen"].startswith("/proc/self: cannot be written to")


def test_a_disk_that_is_read_only_or_full(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,ro", "none", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("cannot mount")
    try:
        Path("inference.yaml").write_text(f"inference_dir: {place}/exp\n")
        checks, status = examine("--inference_config", "inference.yaml")
        assert status == 1
        assert "Read-only file system" in checks["directory of runs"]["seen"]
        subprocess.run(["mount", "-o", "remount,rw", "none", str(place)], check=True)
        checks, status = examine("--inference_config", "inference.yaml")
        assert (checks["directory of runs"]["level"], status) == (Level.WARNING, 0)
        (place / "ballast").write_bytes(bytes(64 << 10))
        checks, status = examine("--inference_config", "inference.yaml")
        assert status == 1
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_no_directory_for_temporary_files(monkeypatch, here):
    monkeypatch.setenv("TMPDIR", str(here / "none"))
    checks, status = examine()
    assert status == 1
    assert checks["TMPDIR"]["level"] == Level.PROBLEM


def test_a_second_espnet3_is_found(monkeypatch, here):
    (here / "site" / "espnet-202611.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(here / "site")
    checks, status = examine()
    assert status == 1
    assert "espnet 202611 was found" in checks["espnet beside espnet3"]["seen"]


SSH = 'case "$*" in *-V | *true) exit 0;; esac\nshift 1\nulimit -n 200\nexec sh -c "$*"'


def test_a_worker_is_started_and_compared_with_the_driver(programs, here):
    ssh = programs(ssh=SSH) / "ssh"
    options = {
        "hosts": ["here"],
        "ssh_command": str(ssh),
        "scheduler_options": {"host": "127.0.0.1"},
    }
    checks, status = examine("--worker", *config({"env": "ssh", "options": options}))
    assert status == 0
    assert checks["connection"]["seen"].startswith("it reached tls://127.0.0.1:")
    for name in ("worker start", "shared directory", "clocks", "packages of the worker"):
        assert checks[name]["level"] == Level.OK, checks[name]
    assert checks["open files of the worker"]["level"] == Level.WARNING
    assert {path.name for path in here.iterdir()} == {"bin", "parallel.yaml"}


def test_a_worker_that_does_not_come_is_told_with_its_last_words(programs):
    ssh = programs(ssh='case "$*" in *-V | *true) exit 0;; esac\necho Out of luck; exit 255')
    options = {"hosts": ["here"], "ssh_command": str(ssh / "ssh")}
    checks, status = examine("--worker", *config({"env": "ssh", "options": options}))
    assert status == 1
    assert "Out of luck" in checks["worker start"]["seen"]
    assert "shared directory" not in checks


def test_a_directory_that_the_worker_does_not_share(tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "PATIENCE", 0.1)
    mine, its = tmp_path / "mine", tmp_path / "its"
    mine.mkdir()
    its.mkdir()
    shared.prepare(mine)()
    found = shared.compare(mine, shared.visit(str(its)), lambda name, content: 0.0)
    assert found.level is Level.PROBLEM
    assert "does not see a file that the driver wrote" in found.seen
    # It shows what it had before, and nothing new.
    shutil.copytree(mine, its, dirs_exist_ok=True)
    found = shared.compare(mine, shared.visit(str(its)), lambda name, content: 0.0)
    assert "the driver does not see a file that the worker on " in found.seen
    # It never shows that a file was replaced.
    shutil.copytree(its, mine, dirs_exist_ok=True)
    found = shared.compare(
        mine, shared.visit(str(its)), lambda *file: shared.await_content(str(its), *file)
    )
    assert "goes on seeing a file that the driver has replaced" in found.seen


def test_a_lock_of_the_driver_holds_for_another_process(tmp_path):
    release = shared.prepare(tmp_path)
    root = str(Path(espnet3.__file__).parents[1])
    program = f"from espnet3.doctor.shared import visit; print(visit({str(tmp_path)!r}).lock)"

    def ask():
        command = [sys.executable, "-c", program]
        environ = {**os.environ, "PYTHONPATH": root}
        return subprocess.run(command, env=environ, capture_output=True, text=True).stdout.strip()

    assert ask() == "True"
    release()
    assert ask() == "False"


def test_another_python_and_other_packages_on_the_worker():
    here = Machine.here()
    there = {**vars(here), "python": ("3.9.1", "/usr/bin/python3")}
    there["versions"] = {**here.versions, "dask": "2020.1", "numpy": ""}
    found = {f.check: f for f in worker.versions(here, Machine(**there))}
    assert found["Python of the worker"].level is Level.PROBLEM
    assert found["packages of the worker"].level is Level.PROBLEM
    assert "numpy missing" in found["packages of the worker"].seen
    there["versions"] = {**here.versions, "numpy": ""}
    found = {f.check: f for f in worker.versions(here, Machine(**there))}
    assert found["packages of the worker"].level is Level.WARNING


@pytest.mark.parametrize(
    ("apart", "error", "level"),
    [(0.4, 0.1, Level.OK), (-7.0, 3.0, Level.OK), (-7.0, 0.1, Level.WARNING)],
)
def test_clocks_that_differ(apart, error, level):
    assert worker.clocks(apart, error, "node1").level is level
