"""Run scripts, task scripts and decode configs: the configs that they become."""

import os
import sys

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from espnet3.commands.main import main
from espnet3.migrate.findings import Fate
from espnet3.migrate.recipe import migrate
from espnet3.migrate.report import report
from espnet3.migrate.run.script import parse_run_script
from espnet3.parallel.config import parse_parallel

CMD = """\
cmd_backend=slurm
if [ "${cmd_backend}" = local ]; then
    export decode_cmd="run.pl"
    export cuda_cmd="run.pl"
elif [ "${cmd_backend}" = slurm ]; then
    export decode_cmd="slurm.pl --mem 2G"
    export cuda_cmd="slurm.pl --mem 8G"
fi
"""
ASR = """\
# General
nj=32                   # The number of parallel jobs.
inference_nj=24         # The number of parallel jobs in decoding.
gpu_inference=false
ngpu=1
stage=1
use_lm=true
num=4
inference_ngram=${num}gram.bin
inference_lm=valid.loss.ave.pth
inference_asr_model=valid.acc.ave.pth
inference_config= # Config for decoding.
inference_args=
asr_tag=
asr_config=
cleaner=none
eval_valid_set=false
train_set=
valid_set=
test_sets=
lang=noinfo
local_data_opts=
help_message=$(cat << EOF
nj=1
EOF
)
. utils/parse_options.sh
nj=99
"""
DECODE = "beam_size: 20\nctc_weight: 0.3 # as trained\nbatch_size: 1\nbeam-size: 3\nodd: 1\n"


@pytest.fixture
def asr(recipe):
    recipe.write("cmd.sh", CMD)
    recipe.write("conf/slurm.conf", "command sbatch -p cpu -t 1:0:0\noption mem=* --mem $0\n")
    recipe.write("asr.sh", ASR)
    recipe.write("conf/decode.yaml", DECODE)
    return recipe


def migrated(recipe, run, name="run.sh"):
    recipe.write(name, run)
    return migrate(recipe.path)


def config(done, name="inference"):
    return yaml.safe_load(done.files[f"conf/{name}.yaml"])


def row(done, setting):
    (found,) = {f for f in done.findings if f.setting == setting and str(f.place)[:3] == "run"}
    return found


def test_the_inference_config(asr):
    done = migrated(
        asr,
        'test_sets="dev other"\n'
        "./asr.sh \\\n"
        "    --inference_config conf/decode.yaml \\\n"
        "    --use_lm false --asr_tag my \\\n"
        '    --test_sets "${test_sets}" "$@"\n',
    )
    got = config(done)
    assert got == {
        "recipe_dir": ".",
        "exp_tag": "my",
        "dataset": {
            "recipe_dir": "${recipe_dir}",
            "test": [{"name": n, "data_src_args": {"split": n}} for n in ("dev", "other")],
        },
        "model": {
            "_target_": "espnet2.bin.asr_inference.Speech2Text",
            "asr_train_config": "???",
            "asr_model_file": "???",
            "beam_size": 20,
            "ctc_weight": 0.3,
        },
        "input_key": "speech",
        "output_fn": "???",
        "output_keys": ["text"],
        "parallel": {
            "env": "slurm",
            "n_workers": 24,
            "options": {"queue": "cpu", "memory": "2GiB", "walltime": "1:0:0"},
        },
    }
    assert "  beam_size: 20  # conf/decode.yaml:1\n" in done.files["conf/inference.yaml"]
    assert "pieces, this is how many processes (asr.sh:3)" in done.files["conf/inference.yaml"]
    assert str(row(done, '--test_sets "${test_sets}"').place) == "run.sh:5"


@pytest.mark.parametrize(
    ("options", "env", "n_workers"),
    [
        ("--inference_nj 3", "slurm", 3),
        ("--inference-nj 3 --gpu_inference true", "slurm", 3),
        ("--inference_nj 3 --inference_nj 5", "slurm", 5),
        ('--inference_nj "$(nproc)"', "slurm", None),
    ],
)
def test_workers_come_from_the_right_options(asr, options, env, n_workers):
    got = config(migrated(asr, f"./asr.sh {options} --test_sets a\n"))["parallel"]
    assert (got["env"], got.get("n_workers")) == (env, n_workers)
    assert got["options"]["memory"] == ("8GiB" if "gpu" in options else "2GiB")


def test_a_command_that_limits_its_jobs_limits_the_workers(asr):
    asr.write("cmd.sh", 'decode_cmd="slurm.pl --mem 1G --max-jobs-run 4"\n')
    assert config(migrated(asr, "./asr.sh --test_sets a\n"))["parallel"]["n_workers"] == 4


def test_arguments_win_over_the_decode_config(asr):
    run = './asr.sh --inference_config conf/decode.yaml --inference_args "--beam_size 3 --nbest=2"'
    model = config(migrated(asr, run))["model"]
    assert (model["beam_size"], model["nbest"], model["ctc_weight"]) == (3, 2, 0.3)


@pytest.mark.parametrize(
    ("run", "sets"),
    [
        ('a="x"\na+=" y"\n./asr.sh --test_sets "$a"', ["x", "y"]),
        ('for l in 1 2; do t="d_${l} ${t:-}"; done\n./asr.sh --test_sets "${t%% }"', None),
        ('t=\nfor l in 1 2; do t="d_${l} ${t}"; done\n./asr.sh --test_sets "${t%% }"',
         ["d_2", "d_1"]),
        ('fs=16\nif [ $fs -eq 16 ]; then t=a; else t=b; fi\n./asr.sh --test_sets "$t"', ["a"]),
        ('l="a-b"\n./asr.sh --test_sets "t_${l//-/_}"', ["t_a_b"]),
        ("t=(a b)\n./asr.sh --test_sets \"${t[*]}\"", ["a", "b"]),
        ("./asr.sh --test_sets 'a b/'", ["a", "b"]),
        ("o='--test_sets a'\n./asr.sh ${o} \"$@\"", ["a"]),
        ("bash ./asr.sh --valid_set v --eval_valid_set true --test_sets a", ["a", "v"]),
        ("t=b # c \\\n./asr.sh --test_sets $t", ["b"]),
        ("# ./asr.sh --test_sets no \\\n./asr.sh --test_sets yes", ["yes"]),
    ],
)  # fmt: skip
def test_test_sets_as_run_scripts_write_them(asr, run, sets):
    tests = config(migrated(asr, run))["dataset"]["test"]
    assert [one["name"] for one in tests] == (sets or ["???"])


@pytest.mark.parametrize(
    ("run", "why"),
    [
        ("./asr.sh --test_sets $(ls data)", ""),
        ("a=${b}\nb=${a}\n./asr.sh --test_sets ${a}", "run.sh:1"),
        ("./asr.sh --test_sets ${none}", "none"),
        ("if x; then t=a; fi\n./asr.sh --test_sets $t", "under `if x`"),
        ("for l in a b; do\n./asr.sh --test_sets $l\ndone", ""),
    ],
)
def test_what_only_running_would_tell_is_marked_and_told_with_its_line(asr, run, why):
    done = migrated(asr, run)
    assert config(done)["dataset"]["test"][0]["name"] == "???"
    told = [f for f in done.unmapped if "--test_sets" in f.setting]
    assert told
    assert all(f.place.line is not None and why in f.went_to for f in told)


def test_every_option_and_variable_has_a_row(asr):
    run = (
        "unused=1\nlocal_opts='--a b'\nmkdir -p x | tee y\n"
        "./asr.sh --stage 2 --ngpu 4 --nj 8 --lang en --asr_config conf/train.yaml \\\n"
        '  --local_data_opts "${local_opts}" --none 1 \\\n'
        "  --train_set t --test_sets a positional\n"
    )
    done = migrated(asr, run)
    fates = {
        "unused=1": Fate.UNUSED,
        "local_opts='--a b'": Fate.MAPPED,
        "--stage 2": Fate.NEEDLESS,
        "--ngpu 4": Fate.LATER,
        "--nj 8": Fate.UNMAPPED,
        "--lang en": Fate.LATER,
        "--asr_config conf/train.yaml": Fate.LATER,
        '--local_data_opts "${local_opts}"': Fate.UNMAPPED,
        "--train_set t": Fate.MAPPED,
        "positional": Fate.UNMAPPED,
    }
    assert {setting: row(done, setting).fate for setting in fates} == fates
    assert "no such option and would have refused it" in row(done, "--none 1").went_to
    assert any(f.setting.startswith("mkdir") for f in done.unmapped)
    text = report(done)
    assert "asr.sh: `inference_nj=24`" in text
    assert "`nj=99`" not in text


def test_every_key_of_a_decode_config_has_a_row(asr):
    asr.write("conf/tuning/decode_other.yaml", "beam_size: 1\n")
    done = migrated(asr, "./asr.sh --inference_config conf/decode.yaml --test_sets a\n")
    fates = {str(f.place): (f.fate, f.went_to) for f in done.findings if "decode" in f.place.file}
    assert fates["conf/decode.yaml:1"] == (Fate.MAPPED, "model.beam_size: 20")
    assert fates["conf/decode.yaml:3"][0] is Fate.NEEDLESS
    assert "refuses this spelling" in fates["conf/decode.yaml:4"][1]
    assert "no such argument" in fates["conf/decode.yaml:5"][1]
    assert fates["conf/tuning/decode_other.yaml:1"][0] is Fate.UNUSED


def test_every_run_script_and_call_gets_a_config(asr):
    asr.write("run_big.sh", "./asr.sh --use_streaming true --test_sets b\n")
    done = migrated(asr, "./asr.sh --test_sets a\n./asr.sh --test_sets c\n")
    names = {n: config(done, n)["dataset"]["test"][0]["name"]
             for n in ("inference", "inference_2", "inference_big")}  # fmt: skip
    assert names == {"inference": "a", "inference_2": "c", "inference_big": "b"}
    assert "Speech2TextStreaming" in config(done, "inference_big")["model"]["_target_"]


def test_without_the_task_script_the_table_has_its_defaults(recipe):
    done = migrated(recipe, "./tts.sh --test_sets a --inference_config conf/none.yaml\n")
    got = config(done)
    assert got["parallel"] == {"env": "local", "n_workers": 1}
    assert "inference_nj 32 was how many pieces" in done.files["conf/inference.yaml"]
    assert got["model"]["_target_"] == "espnet2.bin.tts_inference.Text2Speech"
    assert "conf/metrics.yaml" not in done.files
    assert any("versa" in f.went_to and "metrics" in f.decide for f in done.unmapped)
    assert any(f.went_to == "there is no such file" for f in done.unmapped)
    assert any("tts.sh of ESPnet 202611" in source for source in done.runs.defaults)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("run.sh", b"\0\1", "binary"),
        ("run.sh", b"./asr.sh 'a\n", "not read as shell"),
        ("run.sh", b"if x\n", "not read as shell"),
        ("conf/decode.yaml", b"a: [\n", "no YAML"),
        ("conf/decode.yaml", b"- a\n", "no block of keys"),
        ("conf/decode.yaml", b"a: &a [1, 1]\nb: [*a, *a]\n", "aliases"),
        ("conf/decode.yaml", b"\xff", "not UTF-8"),
        ("asr.sh", b"a='\n", "not read as shell"),
    ],
)
def test_bad_files_are_told(asr, name, content, why):
    asr.write("run.sh", "./asr.sh --inference_config conf/decode.yaml --test_sets a\n")
    asr.write(name, content)
    done = migrate(asr.path)
    assert any(f.place.file == name and why in f.went_to for f in done.unmapped)


@pytest.mark.parametrize(
    "before",
    [
        "a=xxxxxxxxxx\n" + "a=$a$a\n" * 60,
        "a=xxxxxxxxxx\n" + "a+=${a//x/$a}\n" * 60,
        'a="' + "x " * 20_000 + '"\n',
        "".join(f"for i{n} in 1 2 3 4 5 6 7 8 9; do\n" for n in range(12))
        + "a=x$a\n"
        + "done\n" * 12,
        "for a in $(seq 1000000); do b=$a; done\n",
    ],
)
def test_scripts_that_grow_without_end_are_given_up(asr, before):
    done = migrated(asr, f'{before}./asr.sh --train_set t --test_sets "$a"\n')
    assert [one["name"] for one in config(done)["dataset"]["test"]] == ["???"]


def test_names_of_test_sets_stay_below_the_data_directory(asr):
    done = migrated(asr, "./asr.sh --test_sets '../x a b/../../c org/d'\n")
    assert [one["name"] for one in config(done)["dataset"]["test"]] == ["a", "org/d"]
    assert any("outside of the data directory" in f.went_to and f.decide for f in done.unmapped)


def test_a_run_script_that_calls_none_is_told(asr):
    done = migrated(asr, "python app.py\n")
    assert any("calls no task script" in f.went_to for f in done.unmapped)


def test_what_is_written_passes_the_check_once_the_marks_are_filled(asr, tmp_path, monkeypatch):
    """`--dry_run` names just the marked keys, and then renders the job script."""
    asr.write("run.sh", "./asr.sh --inference_config conf/decode.yaml --test_sets a\n")
    out = tmp_path / "out"
    assert CliRunner().invoke(main, ["migrate", str(asr.path), "--out", str(out)]).exit_code == 0
    for name, text in {
        "espnet2/__init__.py": "",
        "espnet2/bin/__init__.py": "",
        "espnet2/bin/asr_inference.py": "class Speech2Text:\n    pass\n",
        "dataset/__init__.py": "class Dataset:\n"
        "    def __init__(self, split, recipe_dir=None):\n        self.split = split\n"
        "    def __len__(self):\n        return 3\n"
        "    def __getitem__(self, i):\n        return {'utt_id': str(i), 'speech': i}\n",
        "outputs.py": "def text(data, model_output, idx):\n    return {'text': ''}\n",
    }.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    monkeypatch.chdir(out)
    monkeypatch.syspath_prepend(str(out))
    for name in [n for n in sys.modules if n.partition(".")[0] in ("espnet2", "dataset")]:
        monkeypatch.delitem(sys.modules, name)
    problems = dry_run()
    marked = ("asr_train_config", "asr_model_file", "lm_train_config", "lm_file", "output_fn")
    assert all(key in problems for key in marked)
    assert problems.count("???") == len(marked)
    file = out / "conf/inference.yaml"
    text = file.read_text().replace("output_fn: ???", "output_fn: outputs.text")
    file.write_text(text.replace("???", "exp/file"))
    for name in ("sbatch", "scancel", "squeue"):  # the job script is shown where they are
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert "#SBATCH --mem=2G" in dry_run()


def dry_run():
    import io
    from contextlib import redirect_stderr, redirect_stdout

    from espnet3.systems.base.system import BaseSystem
    from espnet3.systems.launch import launch

    said = io.StringIO()
    words = ["--stages", "infer", "--inference_config", "conf/inference.yaml", "--dry_run"]
    with redirect_stdout(said), redirect_stderr(said):
        try:
            launch(BaseSystem, words)
        except SystemExit as end:
            said.write(str(end.code))
    return said.getvalue()


PIECES = st.sampled_from(
    ["./asr.sh ", "--test_sets ", "--nj ", "a ", '"', "'", "$(", ")", "${", "}", "\n", "\\\n"]
    + ["x=", "x+=", "y=${x}", "(", "if ", "; then ", "fi\n", "for l in a b; do ", "done\n", "#"]
    + ["`", "<<EOF\n", "EOF\n", "case a in\n", "esac\n", "f() {", "&& ", "| ", "é", "${a//b/c}"]
)


@given(run=st.lists(PIECES).map("".join), decode=st.lists(PIECES).map("".join))
def test_whatever_is_in_the_files_it_is_told(tmp_path_factory, run, decode):
    path = tmp_path_factory.mktemp("recipe")
    (path / "conf").mkdir()
    (path / "conf/decode.yaml").write_text(decode)
    (path / "run.sh").write_text(f"./asr.sh --inference_config conf/decode.yaml\n{run}")
    done = migrate(path)
    assert report(done)
    for file, text in done.runs.files.items():
        if "inference" in file:
            parse_parallel(yaml.safe_load(text)["parallel"], source=file)


def test_lines_of_a_continued_call_are_their_own():
    (call,) = parse_run_script("set -e\n./asr.sh \\\n --a 1 \\\n --b 2\n", "run.sh").calls
    assert [(w.written, w.place.line) for w in call.words] == [
        ("--a", 3), ("1", 3), ("--b", 4), ("2", 4),
    ]  # fmt: skip
