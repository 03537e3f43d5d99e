"""Runners of a program that is run as it is, without a module: a script, a notebook."""

import os
import re
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


class Notebook:
    """A kernel, as a notebook has it."""

    def __init__(self, manager):
        # With that, it would not show what is written to the file descriptors.
        env = {name: os.environ[name] for name in os.environ if name != "PYTEST_CURRENT_TEST"}
        self.kernel, self.client = manager.start_new_kernel(startup_timeout=60, env=env)

    def run(self, cell, heard=lambda message: None):
        """What a cell shows: (type, content) of each message."""
        shown = []

        def hear(message):
            if message["msg_type"] in ("stream", "error", "display_data", "update_display_data"):
                shown.append((message["msg_type"], message["content"]))
                heard(message)

        self.client.execute_interactive(cell, output_hook=hear, timeout=60)
        return shown

    def close(self):
        self.client.stop_channels()
        self.kernel.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel():
    notebook = Notebook(pytest.importorskip("jupyter_client.manager"))
    yield notebook
    notebook.close()


@pytest.fixture
def notebook(kernel, environ, tmp_path):
    root = str(Path(espnet3.__file__).parents[1])
    assert not kernel.run(
        f"import os, sys; sys.path.insert(0, {root!r}); os.chdir({str(tmp_path)!r})"
    )
    return kernel


def printed(shown):
    return "".join(content["text"] for kind, content in shown if kind == "stream")


def test_notebook_runs_what_its_cells_define(notebook):
    assert notebook.run(PROGRAM) == []
    assert printed(notebook.run("run()")) == "[0, 3, 6, 9]\n"
    assert printed(notebook.run("print('after')")) == "after\n"


def test_progress_in_a_notebook_is_one_display(notebook):
    notebook.run(PROGRAM)
    shown = notebook.run("run()")
    assert [kind for kind, _ in shown].count("display_data") == 1
    displays = [content for kind, content in shown if "display_data" in kind]
    assert len({content["transient"]["display_id"] for content in displays}) == 1
    lines = [content["data"]["text/plain"] for content in displays]
    assert not re.search(r"[\r\n\x1b]", "".join(lines))
    assert lines[-1].startswith("4 of 4 items done (100 %)")
    assert lines[-1].endswith("2 workers")


HOLDING = """\
import time

class Hold(Times):
    @staticmethod
    def forward(idx, factor):
        print("at", idx)
        while idx == 2 and not os.path.exists("go"):
            time.sleep(0.01)
        return idx * factor

set_parallel({"n_workers": 1})
"""


def test_interrupting_a_cell_ends_its_run_in_good_order(notebook):
    notebook.run(PROGRAM + HOLDING)
    call = "print(Hold(Factor({'factor': 3}), output_dir='held')(range(4)))"

    def interrupt(message):
        if "at 2" in message["content"].get("text", ""):
            notebook.kernel.interrupt_kernel()
        elif "Stopping after the items in hand" in message["content"].get("text", ""):
            Path("go").touch()

    *_, (kind, error) = notebook.run(call, interrupt)
    assert (kind, error["ename"]) == ("error", "KeyboardInterrupt")
    said = printed(notebook.run("from espnet3 import runs; print(runs.snapshot('held').state)"))
    assert said == "stopped\n"
    assert printed(notebook.run(call)) == "at 3\n[0, 3, 6, 9]\n"
