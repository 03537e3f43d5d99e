"""Runners of a program that is run as it is, without a module: a script, a notebook."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import espnet3

PROGRAM = """\
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import set_parallel

class Factor(EnvironmentProvider):
    def build_env_local(self):
        return {"factor": self.config["factor"]}

class Times(BaseRunner):
    @staticmethod
    def forward(idx, factor):
        return idx * factor

def run():
    set_parallel({"n_workers": 2})
    print(Times(Factor({"factor": 3}), output_dir="out")(range(4)))

"""
GUARD = 'if __name__ == "__main__":\n    '


@pytest.fixture
def environ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = str(Path(espnet3.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)


def run(text):
    Path("program.py").write_text(text)
    return subprocess.run(
        [sys.executable, "program.py"], capture_output=True, text=True, timeout=60, check=False
    )


def test_script_without_a_log_prints_its_own_words_alone(environ):
    done = run(PROGRAM + GUARD + "run()")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 3, 6, 9]\n", "")


def test_missing_guard_is_explained_once(environ):
    done = run(PROGRAM + "run()")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("Traceback") == 1
    error = done.stderr.rpartition("ConfigError: ")[2]
    assert error.startswith(f"the program {Path('program.py').absolute()} runs what starts workers")
    assert error.endswith('\n\n    if __name__ == "__main__":\n        ...\n')


def test_missing_guard_of_a_run_without_workers_is_found_by_a_process_that_imports_it(environ):
    spawn = "import multiprocessing\nmultiprocessing.get_context('spawn').Process(target=print)"
    done = run(PROGRAM.replace('"n_workers": 2', '"n_workers": 1') + f"run()\n{spawn}.start()")
    assert done.stdout == "[0, 3, 6, 9]\n"
    assert "ConfigError: the program " in done.stderr


def test_notebook_runs_what_its_cells_define(environ):
    manager = pytest.importorskip("jupyter_client.manager")
    kernel, client = manager.start_new_kernel(startup_timeout=60)
    try:
        printed = []

        def heard(message):
            if message["msg_type"] in ("stream", "error"):
                printed.append(message["content"])

        for cell in (PROGRAM, "run()", "print('after')"):
            client.execute_interactive(cell, output_hook=heard, timeout=60)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert [(part["name"], part["text"]) for part in printed] == [
        ("stdout", "[0, 3, 6, 9]\n"),
        ("stdout", "after\n"),
    ]
