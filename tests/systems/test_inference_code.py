"""`infer` on edited code, and what else does or does not make it another run."""

import logging
import os
import shutil
import sys

import pytest
from omegaconf import OmegaConf

from espnet3.errors import IdentityChanged, RunFailed
from espnet3.systems.base.inference import infer
from espnet3.utils.resolvers import register_resolvers

FILES = {
    "mysrc/__init__.py": "",
    "mysrc/model.py": """
from mysrc.layers import layer

class Model:
    def __init__(self, weights=None, prefix="TEXT"):
        self.prefix = prefix

    def __call__(self, x):
        with open("calls", "a") as file:
            file.write(f"{x} ")
        return {"hyp": f"{self.prefix} {layer(x)}"}
""",
    "mysrc/layers.py": "def layer(x):\n    return x\n",
    "mysrc/output.py": "def output_fn(data, model_output, idx):\n    return model_output\n",
    "mysrc/clean.py": "def transform(item):\n    return item\n",
    "mysrc/noisy.py": "def transform(item):\n    return item\n",
    "mysrc/unused.py": "",
    "recipe/dataset/__init__.py": "from .dataset import Dataset\n",
    "recipe/dataset/dataset.py": """
from .lists import ids

class Dataset:
    def __init__(self, n=3):
        self.n = n
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        return {"utt_id": ids(i), "x": i}
""",
    "recipe/dataset/lists.py": "def ids(i):\n    return f'u{i}'\n",
}


@pytest.fixture
def make_config(tmp_path, monkeypatch):
    """A recipe with code of its own, and its config."""
    register_resolvers()
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "weights").write_text("one")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def make(n=3, **keys):
        def transform(name):
            return {"_target_": "hydra.utils.get_method", "path": f"mysrc.{name}.transform"}

        entries = [{"name": "clean", "data_src_args": {"n": n}, "transform": transform("clean")}]
        return OmegaConf.create(
            {
                "recipe_dir": "recipe",
                "exp_dir": str(tmp_path / "exp"),
                "inference_dir": "${exp_dir}/inference",
                "dataset": {"test": entries},
                "model": {"_target_": "mysrc.model.Model", "weights": "weights"},
                "input_key": "x",
                "output_fn": "mysrc.output.output_fn",
            }
            | keys
        )

    yield make
    forget_modules()


def forget_modules():
    """As if this were a process that has not imported them yet."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mysrc"]:
        del sys.modules[name]


def edit(tmp_path, name):
    path = tmp_path / name
    path.write_text(path.read_text() + "\nEDITED = 1\n")


def warnings(caplog):
    found = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    caplog.clear()
    return found


# edited code


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("mysrc/model.py", "mysrc.model"),
        ("mysrc/layers.py", "mysrc.layers"),
        ("mysrc/output.py", "mysrc.output"),
        ("mysrc/clean.py", "mysrc.clean"),
        ("recipe/dataset/__init__.py", "dataset"),
        ("recipe/dataset/dataset.py", "dataset.dataset"),
        ("recipe/dataset/lists.py", "dataset.lists"),
    ],
)
def test_edited_code_of_the_recipe_is_named(make_config, tmp_path, caplog, name, module):
    infer(make_config(run={"limit": 1}))
    edit(tmp_path, name)
    caplog.clear()
    infer(make_config())
    (said,) = warnings(caplog)
    assert f"1 module was edited since this run began or last went on: {module}. " in said
    assert (tmp_path / "calls").read_text() == "0 1 2 "
    edit(tmp_path, name)
    (tmp_path / name).write_text((tmp_path / name).read_text() + "EDITED = 2\n")
    with pytest.raises(IdentityChanged, match=rf"edited since: {module}\. "):
        infer(make_config())


def test_what_only_the_builder_needs_does_not_count(make_config, tmp_path, caplog):
    init = tmp_path / "recipe/dataset/__init__.py"
    init.write_text("from .builder import Maker as DatasetBuilder\n" + init.read_text())
    (tmp_path / "recipe/dataset/builder.py").write_text("from . import made\nclass Maker: pass\n")
    (tmp_path / "recipe/dataset/made.py").write_text("")
    infer(make_config())
    edit(tmp_path, "recipe/dataset/builder.py")
    edit(tmp_path, "recipe/dataset/made.py")
    infer(make_config())
    init.write_text(FILES["recipe/dataset/__init__.py"] + "class DatasetBuilder: pass\n")
    infer(make_config())
    assert warnings(caplog) == []
    edit(tmp_path, "recipe/dataset/lists.py")
    with pytest.raises(IdentityChanged, match=r"edited since: dataset\.lists\. "):
        infer(make_config())


def test_code_of_other_test_sets_and_comments_do_not_count(make_config, tmp_path, caplog):
    other = {"name": "noisy", "transform": {"_target_": "mysrc.noisy.transform"}}
    infer(make_config())
    edit(tmp_path, "mysrc/unused.py")
    edit(tmp_path, "mysrc/noisy.py")
    (tmp_path / "mysrc/model.py").write_text("# A model.\n" + FILES["mysrc/model.py"])
    config = make_config()
    config.dataset.valid = [other]
    config.dataset.test.append({"name": "other", "data_src_args": {"n": 1}})
    infer(config)
    assert warnings(caplog) == []


def test_moved_recipe_is_the_same_code(make_config, tmp_path, caplog):
    infer(make_config())
    shutil.copytree(tmp_path / "recipe", tmp_path / "moved")
    infer(make_config(recipe_dir=str(tmp_path / "moved")))
    assert warnings(caplog) == []
    assert (tmp_path / "calls").read_text() == "0 1 2 "


def test_driver_imports_no_model_to_know_its_code(make_config, tmp_path):
    infer(make_config())
    forget_modules()
    infer(make_config())
    assert "mysrc.layers" not in sys.modules


# what else decides the results


def test_retrained_checkpoint_of_the_same_path_and_size_is_noticed(make_config, tmp_path):
    infer(make_config())
    (tmp_path / "weights").write_text("two")
    os.utime(tmp_path / "weights", ns=(1, 10**18))
    with pytest.raises(IdentityChanged, match=r"model_files\.weights: weights, 3 bytes, modified"):
        infer(make_config())
    infer(make_config(run={"accept_changes": True}))
    infer(make_config())
    assert (tmp_path / "calls").read_text() == "0 1 2 "


def test_places_times_and_workers_make_no_difference(make_config, tmp_path, caplog):
    prefix = "${now:%H:%M:%S.%f}"
    keys = {"log_dir": "logs/" + prefix, "model": {"_target_": "mysrc.model.Model"}}
    infer(make_config(exp_tag="one", **keys, started=prefix))
    os.rename(tmp_path / "exp", tmp_path / "elsewhere")
    moved = {"exp_dir": str(tmp_path / "elsewhere"), "exp_tag": "two", "started": "later"}
    parallel = {"env": "local", "n_workers": 2, "options": {"threads_per_worker": 1}}
    run = {"lease_seconds": 3}
    infer(make_config(**keys, **moved, parallel=parallel, run=run))
    assert warnings(caplog) == []
    assert (tmp_path / "calls").read_text() == "0 1 2 "


def test_now_inside_what_counts_is_compared_as_it_is_written(make_config, tmp_path):
    model = {"_target_": "mysrc.model.Model", "prefix": "${now:%H:%M:%S.%f}"}
    infer(make_config(model=model))
    infer(make_config(model=model))
    assert (tmp_path / "calls").read_text() == "0 1 2 "


def test_another_number_of_items_is_refused_though_changes_are_accepted(make_config, tmp_path):
    infer(make_config())
    with pytest.raises(IdentityChanged, match="another item list: it has 3 items, now 4"):
        infer(make_config(n=4, run={"accept_changes": True}))
    infer(make_config(n=4, run={"resume": False}))
    assert (tmp_path / "calls").read_text() == "0 1 2 0 1 2 3 "


def test_interrupted_start_over_keeps_the_old_results_and_goes_on_as_the_new_run(
    make_config, tmp_path
):
    infer(make_config())
    published = tmp_path / "exp/inference/clean/hyp.scp"
    changed = {"_target_": "mysrc.model.Model", "prefix": "NEW"}
    infer(make_config(model=changed, run={"resume": False, "limit": 1}))
    assert published.read_text() == "u0 TEXT 0\nu1 TEXT 1\nu2 TEXT 2\n"
    with pytest.raises(IdentityChanged, match=r"model\.prefix: NEW -> \(not set\)"):
        infer(make_config())
    infer(make_config(model=changed))
    assert published.read_text() == "u0 NEW 0\nu1 NEW 1\nu2 NEW 2\n"
    assert (tmp_path / "calls").read_text() == "0 1 2 0 1 2 "


def test_item_that_an_edit_mends(make_config, tmp_path, caplog):
    good = FILES["mysrc/layers.py"]
    (tmp_path / "mysrc/layers.py").write_text("def layer(x):\n    return 1 // (x - 1)\n")
    with pytest.raises(RunFailed, match="ZeroDivisionError"):
        infer(make_config())
    (tmp_path / "mysrc/layers.py").write_text(good)
    forget_modules()
    caplog.clear()
    infer(make_config())
    assert "mysrc.layers. What is done stays (2 items)" in warnings(caplog)[0]
    assert (tmp_path / "calls").read_text() == "0 1 2 1 "


# several test sets


def three_sets(make_config, **keys):
    """Of 3, 5 and 6 items: all have 0 to 2, `last` alone has 5."""
    sizes = {"done": 3, "broken": 5, "last": 6}
    tests = [{"name": name, "data_src_args": {"n": n}} for name, n in sizes.items()]
    return make_config(dataset={"test": tests}, **keys)


def test_finished_test_set_does_not_keep_an_edit_from_the_failed_ones(make_config, tmp_path):
    good = FILES["mysrc/layers.py"]
    (tmp_path / "mysrc/layers.py").write_text("def layer(x):\n    return x // (x < 3)\n")
    with pytest.raises(RunFailed, match="2 of 3 test sets have failed items; the others are compl"):
        infer(three_sets(make_config))
    (tmp_path / "mysrc/layers.py").write_text(good)
    forget_modules()
    (tmp_path / "calls").unlink()
    with pytest.raises(IdentityChanged) as caught:
        infer(three_sets(make_config))
    head, refused, ways_on = str(caught.value).splitlines()
    assert head == "1 of 3 test sets were refused and left as they are; the others are complete."
    assert refused.startswith("test set done: ")
    assert "its code was edited since: mysrc.layers. " in refused
    assert "`accept_changes: true` keeps what is done of each, does the rest" in ways_on
    assert (tmp_path / "calls").read_text() == "3 4 3 4 5 "
    for name in ("broken", "last"):
        assert (tmp_path / "exp/inference" / name / "text").exists()
    infer(three_sets(make_config, run={"accept_changes": True}))
    infer(three_sets(make_config))
    assert (tmp_path / "calls").read_text() == "3 4 3 4 5 "
