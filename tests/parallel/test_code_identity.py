"""Edited code: an unfinished run warns and goes on, a finished one is refused."""

import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from workloads import Provider, Squares

import espnet3
from espnet3.errors import IdentityChanged, RunFailed
from espnet3.parallel.parallel import parallel_session

FILES = {
    "mine_run.py": """
        from mine_model import square
        from espnet3.parallel.base_runner import BaseRunner
        from espnet3.parallel.env_provider import EnvironmentProvider

        class Provider(EnvironmentProvider):
            def build_env_local(self):
                return {"log": self.config["log"]}

        class Runner(BaseRunner):
            @staticmethod
            def forward(idx, log):
                with open(log + "/forwards", "a") as file:
                    file.write(f"{idx} ")
                return square(idx)

            def merge(self, shard_dirs):
                import os
                if os.path.exists(self.provider.config["log"] + "/broken"):
                    raise OSError("no space")
                return super().merge(shard_dirs)
        """,
    "mine_model.py": """
        def square(x):
            from mine_tools import deep
            if x in deep.BAD:
                raise ValueError(f"{x} is bad")
            return x * x
        """,
    "mine_tools/__init__.py": "",
    "mine_tools/deep.py": "from . import deeper\nBAD = []\n",
    "mine_tools/deeper.py": "if 0:\n    from .. import nowhere\n    import json, mine_tools.gone\n",
    "mine_other.py": "X = 1\n",
    "site-packages/mine_installed.py": "X = 1\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Modules of a user, on the path."""
    root = tmp_path / "project"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(root / "site-packages")
    monkeypatch.syspath_prepend(root)
    yield root
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]


@pytest.fixture
def runner(project, log, out):
    def make(**arguments):
        from mine_run import Provider, Runner

        return Runner(Provider({"log": str(log)}), output_dir=out, **arguments)

    return make


def begin(runner, n=2):
    """Do the first items of a run of four."""
    with parallel_session(run={"limit": n}):
        runner()(range(4))


def append(path, text):
    path.write_text(path.read_text() + text)


def warnings(caplog):
    found = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    caplog.clear()
    return found


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("mine_run.py", "mine_run"),
        ("mine_model.py", "mine_model"),
        ("mine_tools/deep.py", "mine_tools.deep"),
        ("mine_tools/deeper.py", "mine_tools.deeper"),
        ("mine_tools/__init__.py", "mine_tools"),
    ],
)
def test_unfinished_run_names_an_edited_module_once_and_goes_on(
    runner, project, log, caplog, name, module
):
    begin(runner)
    append(project / name, "\nEDITED = 1\n")
    begin(runner, 3)
    (said,) = warnings(caplog)
    assert f"1 module was edited since this run began or last went on: {module}. " in said
    assert "(2 items)" in said
    assert "resume: false" in said
    assert runner()(range(4)) == [0, 1, 4, 9]
    assert warnings(caplog) == []
    assert (log / "forwards").read_text() == "0 1 2 3 "


def test_comments_docstrings_layout_and_other_modules_do_not_count(runner, project, caplog):
    begin(runner)
    (project / "mine_model.py").write_text(
        '"""Squares."""\n\n# A comment.\n\n\ndef square(\n    x,\n):\n    """The square."""\n'
        "    from mine_tools import deep\n\n    if (x in deep.BAD):\n"
        "        raise ValueError(f'{x} is bad')  # so there\n    return (\n        x * x\n    )\n"
    )
    append(project / "mine_other.py", "Y = 2\n")
    assert runner()(range(4)) == [0, 1, 4, 9]
    assert warnings(caplog) == []


def test_several_edits_are_told_together(runner, project, caplog):
    begin(runner)
    append(project / "mine_run.py", "import mine_other\n")
    (project / "mine_tools" / "deep.py").write_text("BAD = []\n")
    runner()(range(4))
    (said,) = warnings(caplog)
    assert (
        "4 modules were edited since this run began or last went on: mine_run, mine_tools.deep, "
        "mine_other (new), mine_tools.deeper (not used any more). " in said
    )


def test_finished_run_is_refused_and_names_the_ways_on(runner, project, log, out, caplog):
    runner()(range(4))
    before = (out / "manifest.json").read_bytes()
    append(project / "mine_model.py", "\nEDITED = 1\n")
    for _ in range(2):
        with pytest.raises(IdentityChanged, match=r"edited since: mine_model\. ") as refused:
            runner()(range(4))
    for way_on in ("resume: false", "another output_dir", "accept_changes: true"):
        assert way_on in str(refused.value)
    assert (out / "manifest.json").read_bytes() == before
    with parallel_session(run={"accept_changes": True}):
        assert runner()(range(4)) == [0, 1, 4, 9]
    assert warnings(caplog) == ["accepted: edited code of mine_model"]
    assert runner()(range(4)) == [0, 1, 4, 9]
    assert (log / "forwards").read_text() == "0 1 2 3 "
    append(project / "mine_model.py", "EDITED = 2\n")
    assert runner(resume=False)(range(4)) == [0, 1, 4, 9]
    assert (log / "forwards").read_text() == "0 1 2 3 " * 2


@pytest.mark.parametrize("on_error", ["finish", "skip"])
def test_bad_item_is_mended_by_an_edit(runner, project, log, caplog, on_error):
    (project / "mine_tools" / "deep.py").write_text("from . import deeper\nBAD = [1]\n")
    with parallel_session(run={"on_error": on_error}):
        if on_error == "finish":
            with pytest.raises(RunFailed):
                runner()(range(4))
        else:
            assert runner()(range(4)) == [0, 4, 9]
    caplog.clear()
    (project / "mine_tools" / "deep.py").write_text("from . import deeper\nBAD = []\n")
    del sys.modules["mine_tools.deep"], sys.modules["mine_tools"]
    assert runner()(range(4)) == [0, 1, 4, 9]
    assert "mine_tools.deep. What is done stays (3 items)" in warnings(caplog)[0]
    assert (log / "forwards").read_text() == "0 1 2 3 1 "


def test_merge_is_mended_by_an_edit(runner, project, log, caplog):
    (log / "broken").touch()
    with pytest.raises(OSError, match="no space"):
        runner()(range(4))
    (log / "broken").unlink()
    append(project / "mine_run.py", "\nEDITED = 1\n")
    assert runner()(range(4)) == [0, 1, 4, 9]
    assert "edited since this run began" in warnings(caplog)[0]
    assert (log / "forwards").read_text() == "0 1 2 3 "


def test_run_that_never_knew_its_code_says_nothing_and_learns_it(runner, project, out, caplog):
    runner()(range(4))
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["code"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    append(project / "mine_model.py", "\nEDITED = 1\n")
    assert runner()(range(4)) == [0, 1, 4, 9]
    assert warnings(caplog) == []
    append(project / "mine_model.py", "\nEDITED = 2\n")
    with pytest.raises(IdentityChanged, match="mine_model"):
        runner()(range(4))


def test_only_local_modules_count(runner, project):
    append(project / "mine_other.py", "import mine_installed, pytest, os.path, omegaconf\n")
    append(project / "mine_run.py", "import mine_other\n")
    names = [
        "mine_model", "mine_other", "mine_run",
        "mine_tools", "mine_tools.deep", "mine_tools.deeper",
    ]  # fmt: skip
    assert list(runner().code_identity()) == names


def test_files_that_cannot_be_read_are_no_error(runner, project):
    edits = {
        "mine_broken.py": b"def (:\n",
        "mine_bytes.py": b"x = '\xff'\n",
        "mine_null.py": b"x = 1\0\n",
        "mine_deep.py": b"x = " + b"-" * 5000 + b"1\n",
        "mine_sum.py": b"x = 1" + b" + 1" * 5000 + b"\n",
        "mine_huge.py": b"x = 0x" + b"f" * 9000 + b"\n",
        "mine_data.py": b"x = 1\n" * 400_000,
    }
    for name, data in edits.items():
        (project / name).write_bytes(data)
        append(project / "mine_other.py", f"import {name[:-3]}\n")
    (project / "mine_folder.py").mkdir()
    os.mkfifo(project / "mine_pipe.py")
    append(project / "mine_other.py", "import mine_folder, mine_pipe\n")
    append(project / "mine_run.py", "if 0:\n    import mine_other\n")
    before = runner().code_identity()
    assert {name[:-3] for name in edits} < set(before)
    for name in edits:
        (project / name).write_bytes((project / name).read_bytes() + b"y = 1\n")
    after = runner().code_identity()
    assert {name for name in after if after[name] != before[name]} == {n[:-3] for n in edits}


def test_library_on_the_path_is_followed_so_far_and_no_farther(runner, project):
    for i in range(600):
        (project / f"mine_chain{i}.py").write_text(f"import mine_chain{i + 1}\n")
    append(project / "mine_other.py", "import mine_chain0\n")
    append(project / "mine_run.py", "if 0:\n    import mine_other\n")
    code = runner().code_identity()
    assert len(code) == 500
    assert "mine_tools.deeper" in code


def test_what_a_config_names_or_holds_counts(project, out):
    import mine_other
    from mine_run import Provider, Runner

    (project / "mine_named.py").write_text("import mine_model\nclass Model: pass\n")
    config = {"model": {"_target_": "mine_named.Model"}, "log": "", "fns": [mine_other.__loader__]}
    assert {"mine_named", "mine_model"} < set(Runner(Provider(config)).code_identity())
    assert "mine_named" not in sys.modules


def test_folders_without_init_are_packages_too(project, out):
    from mine_run import Provider, Runner

    (project / "mine_space/inner").mkdir(parents=True)
    (project / "mine_space/inner/model.py").write_text("from . import part\nclass Model: pass\n")
    (project / "mine_space/inner/part.py").write_text("X = 1\n")
    config = {"model": {"_target_": "mine_space.inner.model.Model"}, "log": ""}
    code = Runner(Provider(config)).code_identity()
    assert {"mine_space.inner.model", "mine_space.inner.part"} < set(code)
    assert "mine_space" not in sys.modules


# scripts and notebooks

SCRIPT = """
import sys
from mine_other import X
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.env_provider import EnvironmentProvider
SCALE = [2]
SCALE.append(3)
SHOWN = "result"
def scaled(x):
    n = len(SCALE)
    return n * x * X
class Provider(EnvironmentProvider):
    def build_env_local(self):
        return {}
if __name__ == "__main__":
    class Runner(BaseRunner):
        @staticmethod
        def forward(idx, n=1):
            return scaled(idx)
    n = 4
    print(SHOWN, Runner(Provider(), output_dir=sys.argv[1])(range(n)))
"""


def run_script(project, out, text):
    (project / "script.py").write_text(text)
    root = str(Path(espnet3.__file__).parents[1])
    return subprocess.run(
        [sys.executable, str(project / "script.py"), str(out)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )


def test_of_a_script_only_what_makes_the_results_counts(project, out):
    assert run_script(project, out, SCRIPT).stdout == "result [0, 2, 4, 6]\n"
    harmless = SCRIPT.replace("n = 4\n", "n = 2 + 2\n").replace('"result"', '"again"')
    assert run_script(project, out, harmless + "import time\n").stdout == "again [0, 2, 4, 6]\n"
    for old, new in [
        ("[2]", "[2, 5]"),
        (".append(3)", ".append(4)"),
        ("n * x", "x * n * 1"),
        ("n=1", "n=2"),
        ("{}\n", "{'n': 5}\n"),
    ]:
        assert old in SCRIPT
        refused = run_script(project, out, SCRIPT.replace(old, new))
        assert "its code was edited since: __main__. " in refused.stderr
    append(project / "mine_other.py", "Y = 3\n")
    refused = run_script(project, out, SCRIPT)
    assert "its code was edited since: mine_other. " in refused.stderr


def test_classes_without_a_file_run_and_go_on(project, out):
    text = SCRIPT.replace("sys.argv[1]", repr(str(out)))
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-"],
            input=text,
            env={**os.environ, "PYTHONPATH": f"{Path(espnet3.__file__).parents[1]}:{project}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "result [0, 2, 4, 6]\n", done.stderr


# files that a runner of one's own reads


def test_file_that_the_runners_identity_names_is_noticed(log, out):
    class Reads(Squares):
        def identity(self):
            stat = Path(self.provider.config["lexicon"]).stat()
            return {**super().identity(), "lexicon_file": [stat.st_size, stat.st_mtime_ns]}

    lexicon = log / "lexicon"
    lexicon.write_text("a b")
    provider = Provider(log)
    provider.config["lexicon"] = str(lexicon)
    runner = Reads(provider, output_dir=out)
    assert runner(range(3)) == runner(range(3)) == [0, 1, 4]
    lexicon.write_text("a b c")
    with pytest.raises(IdentityChanged, match=r"lexicon_file\[0\]: 3 -> 5\n"):
        runner(range(3))
