"""`run.py`: what is checked, how configs flow between stages, exit statuses, logs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from espnet3.errors import RunFailed
from espnet3.systems.base.stages import StageSpec
from espnet3.systems.base.system import BaseSystem

REPOSITORY = Path(__file__).parents[2]


class Toy(BaseSystem):
    """Stages that only write down what they were given."""

    stages = (*BaseSystem.stages, StageSpec("report", "metrics", "inference_dir"))
    calls: list[tuple[str, dict]] = []

    def create_dataset(self):
        self.calls.append(("create_dataset", dict(self.training_config)))

    def infer(self):
        config = self.inference_config
        self.calls.append(("infer", {key: config[key] for key in config}))

    def measure(self):
        self.calls.append(("measure", dict(self.metrics_config)))

    def report(self):
        self.calls.append(("report", {"inference": self.inference_config}))


@pytest.fixture(autouse=True)
def no_calls():
    Toy.calls = []


@pytest.fixture
def conf(recipe):
    """Write a small but complete set of configs."""
    recipe.write("conf/train_big.yaml", "dataset: {train: [{}]}\n")
    recipe.write(
        "conf/decode.yaml",
        "dataset: {test: [{name: dev}, {name: test}]}\n"
        "model: {_target_: builtins.dict, beam: 1}\n"
        "input_key: speech\n"
        "provider: {_target_: builtins.dict}\n"
        "runner: {_target_: builtins.dict}\n"
        "hf_token: hf_abcdef\n",
    )
    recipe.write(
        "conf/metrics.yaml",
        "metrics: [{metric: {_target_: builtins.dict}, inputs: {ref: dataset:text, hyp: text}}]\n",
    )
    return recipe


T = ("--training_config", "conf/train_big.yaml")
A = ("--inference_config", "conf/decode.yaml")
M = ("--metrics_config", "conf/metrics.yaml")


def infer(run, *argv):
    """Run infer on the toy configs; give the config that the stage saw."""
    outcome = run(Toy, "--stages", "infer", *T, *A, *argv)
    assert outcome.status == 0, outcome.err
    return Toy.calls[-1][1]


def test_stages_run_in_declared_order_and_experiment_flows(conf, run):
    outcome = run(Toy, "--stages", "report", "measure", "infer", "create_dataset", *T, *A, *M)
    assert outcome.status == 0, outcome.err
    assert [name for name, _ in Toy.calls] == ["create_dataset", "infer", "measure", "report"]
    training, inference, metrics, _ = (config for _, config in Toy.calls)
    assert training["exp_dir"] == "./exp/train_big"
    assert inference["exp_tag"] == "train_big"
    assert inference["inference_dir"] == metrics["inference_dir"] == "./exp/train_big/decode"
    for log in (
        "data/create_dataset.log",
        "exp/train_big/decode/infer.log",
        "exp/train_big/decode/measure.log",
    ):
        assert (conf.root / log).is_file()


def test_log_has_command_and_masked_resolved_config(conf, run):
    infer(run, "model.beam=7")
    log = (conf.root / "exp/train_big/decode/infer.log").read_text()
    assert "model.beam=7" in log
    assert "beam: 7" in log
    assert "inference_dir: ./exp/train_big/decode" in log
    assert "hf_abcdef" not in log
    assert "infer: done" in log


def test_configs_stay_unresolved_for_the_stage(conf, run):
    seen = []

    class Spy(Toy):
        def infer(self):
            from omegaconf import OmegaConf

            seen.append(OmegaConf.to_container(self.inference_config, resolve=False))

    assert run(Spy, "--stages", "infer", *T, *A).status == 0
    assert seen[0]["inference_dir"] == "${exp_dir}/decode"


def test_own_paths_of_a_config_are_kept_and_named(conf, run):
    conf.write("conf/elsewhere.yaml", "exp_dir: other\n")
    outcome = run(Toy, "--stages", "infer", *T, *A, "conf/elsewhere.yaml")
    assert outcome.status == 0
    assert Toy.calls[-1][1]["inference_dir"] == "other/decode"
    assert "elsewhere.yaml: exp_dir is other and is kept" in outcome.err


def test_template_exp_dir_without_a_tag_follows_training(conf, run):
    conf.write("conf/template.yaml", "exp_tag:\nexp_dir: ${recipe_dir}/exp/${exp_tag}\n")
    config = infer(run, "conf/template.yaml", "training.exp_dir=/data/exp/x")
    assert config["exp_dir"] == "/data/exp/x"


def test_standalone_inference_needs_a_place(conf, run):
    outcome = run(Toy, "--stages", "infer", *A)
    assert outcome.status == 2
    assert "inference_dir" in outcome.err
    assert "--training_config" in outcome.err
    assert run(Toy, "--stages", "infer", *A, "inference_dir=out").status == 0
    assert run(Toy, "--stages", "infer", *A, "exp_tag=tagged").status == 0
    assert Toy.calls[-1][1]["inference_dir"] == "./exp/tagged/decode"


def test_overlay_switches_the_backend_without_touching_the_config(conf, run):
    conf.write("conf/two.yaml", "parallel: {n_workers: 2}\nrun: {on_error: skip}\n")
    config = infer(run, "conf/two.yaml", "parallel.n_workers=3", "model.beam=2")
    assert config["parallel"] == {"env": "local", "n_workers": 3, "options": {}}
    assert config["run"] == {"on_error": "skip"}
    assert config["inference_dir"] == "./exp/train_big/decode"


def test_overrides_choose_a_role_by_key_or_by_prefix(conf, run):
    assert infer(run, "inference.model.beam=5")["model"].beam == 5
    assert infer(run, "+inference.run.max_failures=5")["run"].max_failures == 5
    # Both configs have it, but only inference is used by the stage.
    assert infer(run, "recipe_dir=here")["recipe_dir"] == "here"


def test_where_and_how_need_no_plus_for_any_stage(conf, run):
    words = ("run.on_error=skip", "parallel.n_workers=3")
    outcome = run(Toy, "--stages", "create_dataset", "infer", *T, *A, *words)
    assert outcome.status == 0, outcome.err
    for _, config in Toy.calls:
        assert (config["run"].on_error, config["parallel"].n_workers) == ("skip", 3)
    assert run(Toy, "--stages", "create_dataset", *T, "run.onerror=skip").status == 2


def test_a_key_with_the_name_of_its_role_can_be_overridden(conf, run):
    words = ("metrics.0.inputs.hyp=hyp", "metrics.inference_dir=out")
    assert run(Toy, "--stages", "measure", *T, *A, *M, *words).status == 0
    config = Toy.calls[-1][1]
    assert (config["metrics"][0].inputs.hyp, config["inference_dir"]) == ("hyp", "out")


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("model.beem=5", ["model.beam", "+inference.model.beem=5"]),
        ("metrics.x=5", ["no --metrics_config was given"]),
        ("+new=5", ["+training.new=5", "+inference.new=5"]),
        ("inference.model.beem=5", ["model.beam"]),
    ],
)
def test_wrong_overrides_list_candidates(conf, run, override, parts):
    outcome = run(Toy, "--stages", "infer", *T, *A, override)
    assert outcome.status == 2
    for part in parts:
        assert part in outcome.err
    assert Toy.calls == []


def test_an_override_is_for_every_config_that_has_the_key(conf, run):
    outcome = run(Toy, "--stages", "create_dataset", "infer", *T, *A, "data_dir=x")
    assert outcome.status == 0
    assert {stage: config["data_dir"] for stage, config in Toy.calls} == {
        "create_dataset": "x",
        "infer": "x",
    }


def test_an_override_with_a_role_is_for_that_config_alone(conf, run):
    outcome = run(Toy, "--stages", "create_dataset", "infer", *T, *A, "inference.data_dir=y")
    assert outcome.status == 0
    data_dirs = {stage: config["data_dir"] for stage, config in Toy.calls}
    assert data_dirs["infer"] == "y"
    assert data_dirs["create_dataset"] != "y"


def test_every_problem_is_reported_at_once_and_nothing_starts(conf, run):
    conf.write(
        "conf/bad.yaml",
        "dataset: {test: [{name: dev}, {name: dev}, {}]}\n"
        "model: {_target_: no_such_package.Model}\n"
        "runner: {_target_: json.NoSuchRunner}\n"
        "provider: {_target_: json.decoder}\n"
        "output_fn: espnet3.errors.nothing\n"
        "input_key: speech\n"
        "parallel: {nj: 4, n_workers: 0}\n",
    )
    conf.write("conf/metrics.yaml", "metrics: [{inputs: {}}]\n")
    outcome = run(
        Toy,
        *("--stages", "create_dataset", "infer", "measure", "decode", "pack_model"),
        *(*T, *M, "--inference_config", "conf/bad.yaml"),
    )
    assert outcome.status == 2
    for part in (
        "decode: no such stage",
        "pack_model: no such stage; ESPnet3's stages for packing and publishing",
        "bad.yaml: dataset.test.1.name: two test sets",
        "bad.yaml: dataset.test.2.name: every test set needs a name",
        "no module 'no_such_package'",
        "json defines no 'NoSuchRunner'",
        "json.decoder is a module",
        "espnet3.errors defines no 'nothing'",
        "parallel.nj",
        "n_workers",
        "metrics.yaml: metrics.0.metric",
    ):
        assert part in outcome.err, part
    assert "Traceback" not in outcome.err
    assert Toy.calls == []
    assert not (conf.root / "exp").exists()


def test_targets_are_found_in_folders_without_init(conf, run, monkeypatch):
    conf.write("space/inner/model.py", "class Model: pass\n")
    monkeypatch.syspath_prepend(conf.root)
    words = [Toy, "--stages", "infer", *T, *A]
    assert run(*words, "+inference.model._target_=space.inner.model.Model").status == 0
    outcome = run(*words, "+inference.model._target_=space.inner.model.Modell")
    assert outcome.status == 2
    assert "space.inner.model defines no 'Modell'" in outcome.err
    outcome = run(*words, "+inference.model._target_=space.inner")
    assert "space.inner is a module" in outcome.err


def test_missing_keys_configs_and_values_are_named(conf, run):
    conf.write("conf/empty.yaml", "input_key: '???'\nx: ${nowhere}\n")
    outcome = run(
        Toy, "--stages", "create_dataset", "infer", "--inference_config", "conf/empty.yaml"
    )
    assert outcome.status == 2
    for part in (
        "create_dataset needs --training_config",
        "empty.yaml: dataset.test: stage infer needs it",
        "empty.yaml: model: stage infer needs it",
        "empty.yaml: input_key: ???",
        "empty.yaml: x: Interpolation key 'nowhere' not found",
    ):
        assert part in outcome.err, part


def test_dataset_inputs_of_metrics_need_the_inference_config(conf, run):
    outcome = run(Toy, "--stages", "measure", *M, "+inference_dir=out")
    assert outcome.status == 2
    assert "dataset:text is read from the test set" in outcome.err


def test_contract_is_refused_by_name(conf, run):
    outcome = run(Toy, "--stages", "infer", *T, *A, "+inference.contract={inputs: {}}")
    assert outcome.status == 2
    assert "contract: is not supported yet; use output_fn / format_output" in outcome.err


def test_stages_not_built_are_refused_before_anything_starts(conf, run):
    outcome = run(Toy, "--stages", "create_dataset", "train", *T, *A, *M)
    assert outcome.status == 2
    assert "train is not built yet" in outcome.err
    assert Toy.calls == []


def test_all_is_every_stage_that_is_built_and_has_something_to_do(conf, run):
    assert run(Toy, *T, *A, *M).status == 0
    assert [stage for stage, _ in Toy.calls] == ["create_dataset", "infer", "measure", "report"]


def test_overriding_a_stage_that_is_not_built_makes_it_one_that_is(conf, run):
    class Trainer(Toy):
        def train(self):
            self.calls.append(("train", {}))

    argv = ("--stages", "train", *T, "+training.model={_target_: builtins.dict}")
    assert run(Trainer, *argv).status == 0
    assert Toy.calls == [("train", {})]


def test_another_tag_is_another_directory(conf, run):
    """Else the results of two experiments would lie on top of each other."""
    assert infer(run)["inference_dir"].endswith("exp/train_big/decode")
    assert infer(run, "+inference.exp_tag=mine")["inference_dir"].endswith("exp/mine/decode")


def test_training_config_for_context_only_may_have_gaps(conf, run):
    conf.write("conf/train_big.yaml", "tokens: ${tokenizer.tokens}\n")
    assert infer(run)["exp_tag"] == "train_big"
    outcome = run(Toy, "--stages", "infer", *T, *A, "training.exp_dir=${nowhere}/x")
    assert outcome.status == 2
    assert "nowhere" in outcome.err


def test_limit_is_set_for_infer(conf, run):
    conf.write("conf/limited.yaml", "parallel: {limit: 9}\n")
    config = infer(run, "conf/limited.yaml", "--limit", "3")
    assert config["run"].limit == 3
    assert "limit" not in config["parallel"]
    conf.write("conf/null.yaml", "parallel:\nrun:\n")
    assert infer(run, "conf/null.yaml", "--limit", "3")["run"].limit == 3


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--stages", "infer", *T, *A, "--limit", "0"), "must be 1 or more"),
        (("--stages", "infer", "measure", *T, *A, *M, "--limit", "2"), "nothing for measure"),
        (("--stages", "create_dataset", *T, "--limit", "2"), "only infer can be limited"),
        (("--stages", "infer", *T, *A, "--limit", "x"), "invalid int"),
        (("--stages", "infer", *A, "--publication_config", "x"), "publishing models is not supp"),
        (("--stages", "infer", *A, "--nj", "4"), "unknown: --nj 4"),
        (("--stages", "infer", "--inference_config", "conf/decod.yaml"), "there is decode.yaml"),
    ],
)
def test_wrong_usage_is_status_2(conf, run, argv, message):
    outcome = run(Toy, *argv)
    assert outcome.status == 2
    assert message in outcome.err
    assert Toy.calls == []


def test_dry_run_shows_everything_and_runs_nothing(conf, run):
    outcome = run(
        Toy, "--dry_run", "--stages", "create_dataset", "infer", "measure", *T, *A, *M, "--dry_run"
    )
    assert outcome.status == 0, outcome.err
    for part in (
        "log: exp/train_big/decode/infer.log",
        "inference config: conf/decode.yaml",
        "n_workers=1",
        "on_error=finish",
        "output: exp/train_big/decode/dev",
        "output: data",
    ):
        assert part in outcome.out, part
    assert Toy.calls == []
    assert sorted(path.name for path in conf.root.iterdir()) == ["conf"]


def test_failed_run_is_status_1_with_the_traceback_in_the_log(conf, run):
    class Failing(Toy):
        def infer(self):
            try:
                raise KeyError("bad utterance")
            except KeyError as error:
                raise RunFailed("1 of 2 items failed") from error

    outcome = run(Failing, "--stages", "infer", "measure", *T, *A, *M)
    assert outcome.status == 1
    assert "error: 1 of 2 items failed" in outcome.err
    assert "Traceback" not in outcome.err
    assert "bad utterance" in (conf.root / "exp/train_big/decode/infer.log").read_text()
    assert Toy.calls == []


def test_unexpected_exception_goes_through_and_is_logged(conf, run):
    class Broken(Toy):
        def infer(self):
            raise ZeroDivisionError("oops")

    with pytest.raises(ZeroDivisionError):
        run(Broken, "--stages", "infer", *T, *A)
    assert "oops" in (conf.root / "exp/train_big/decode/infer.log").read_text()


def test_ctrl_c_is_status_130(conf, run):
    class Interrupted(Toy):
        def infer(self):
            raise KeyboardInterrupt

    outcome = run(Interrupted, "--stages", "infer", *T, *A)
    assert outcome.status == 130
    assert "Traceback" not in outcome.err


def test_all_stages_share_one_parallel_session(conf, run):
    from espnet3.parallel import parallel

    sessions = []

    class Looking(Toy):
        def infer(self):
            sessions.append(parallel._session)

        def measure(self):
            sessions.append(parallel._session)

    assert run(Looking, "--stages", "infer", "measure", *T, *A, *M).status == 0
    assert sessions[0] is sessions[1] is not None
    assert parallel._session is None


def test_run_py_of_a_recipe_as_a_process(conf):
    conf.write("src/model.py", "class Model: pass\n")
    conf.write("src/__init__.py", "")
    conf.write(
        "run.py",
        "from espnet3.systems.base.system import BaseSystem\n"
        "from espnet3.systems.launch import launch\n\n"
        "class Local(BaseSystem):\n"
        "    def infer(self):\n"
        "        print('beam', self.inference_config.model.beam)\n\n"
        "if __name__ == '__main__':\n"
        "    launch(Local)\n",
    )
    command = [sys.executable, str(conf.root / "run.py"), "--stages", "infer", *A]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    words = ["model._target_=src.model.Model", "model.beam=4", "inference_dir=out"]
    done = subprocess.run(
        [*command, *words], cwd=conf.root, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "beam 4\n"), done.stderr


def test_launch_imports_nothing_heavy():
    script = (
        "import sys, espnet3.systems.launch, espnet3.systems.base.system\n"
        "print({'dask', 'distributed', 'torch', 'hydra', 'numpy'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()", done.stderr
