"""The dataset/ that a migrated recipe gets: what is downloaded, and that it is a recipe."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from espnet3.commands.main import main
from espnet3.migrate.recipe import migrate

DOWNLOAD = """\
# as in many recipes
remove_archive=false
if [ "$1" == --remove-archive ]; then
  remove_archive=true
  shift
fi
if [ $# -ne 3 ]; then echo "Usage: wget"; exit 1; fi
data=$1
url=$2
part=$3
full_url=$url/$part.tar.gz
if ! wget -P $data --no-check-certificate $full_url; then exit 1; fi
tar -C $data -xzf $data/$part.tar.gz
"""
DB = """\
CORPUS=
if [[ "$(hostname -d)" == clsp.jhu.edu ]]; then
    CORPUS=/export/corpora
fi
"""


def prepared(recipe, data, **files):
    recipe.write("cmd.sh", "export train_cmd=run.pl\n")
    recipe.write("run.sh", "./asr.sh --train_set tr --test_sets 'dev test' \"$@\"\n")
    recipe.write("local/data.sh", data)
    for name, text in files.items():
        recipe.write(name.replace("__", "/") + ".sh", text)
    return migrate(recipe.path).preparation


def urls(done):
    return [(target.url, target.path) for target in done.downloads.targets]


def test_downloads_of_a_script_that_is_called_in_a_loop(recipe):
    done = prepared(
        recipe,
        "data_url=www.h.org/12\n. ./db.sh\n"
        "for part in dev train-1; do\n"
        "    local/get.sh ${CORPUS} ${data_url} ${part}\n"
        "done\n",
        local__get=DOWNLOAD,
        db=DB,
    )
    assert urls(done) == [
        ("http://www.h.org/12/dev.tar.gz", "dev.tar.gz"),
        ("http://www.h.org/12/train-1.tar.gz", "train-1.tar.gz"),
    ]
    assert done.downloads.archives == ["dev.tar.gz", "train-1.tar.gz"]
    assert done.downloads.todo == []
    assert {str(target.place) for target in done.downloads.targets} == {"local/get.sh:12"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("wget http://h/a.zip", ["a.zip"]),
        ("u=http://h; wget -c -P d --tries=0 --timeout 15 $u/{a,b}.zip", ["a.zip", "b.zip"]),
        ("wget -O d/x.zip 'http://h/f?id=1&b=2'", ["x.zip"]),
        ("wget --output-document=d/x.zip http://h/f", ["x.zip"]),
        ("curl -L http://h/a.zip -o d/y.zip", ["y.zip"]),
        ("curl -LO https://h/a.zip", ["a.zip"]),
        ('a=(p q)\nfor x in "${a[@]}"; do wget http://h/$x.zip; done', ["p.zip", "q.zip"]),
        ("for i in $(seq 2); do wget http://h/$i.zip; done", ["1.zip", "2.zip"]),
        ("for i in {08..10}; do wget http://h/$i; done", ["08", "09", "10"]),
        ("u=http://h/a.tgz; f=$(basename $u .tgz); wget http://h/${f}.zip", ["a.zip"]),
        ("u=http://h/a.tgz; f=${u##*/}; wget http://h/${f%.tgz}.zip", ["a.zip"]),
        ("u=http://h/a-b; wget ${u//-/_}.zip; wget ${u/h/H}", ["a_b.zip", "a-b"]),
        ("d=$(cd x; pwd); wget -P $d http://h/a.zip", ["a.zip"]),
        ("lang=en\nif [ $lang = de ]; then u=http://h/de; else u=http://h/en; fi\nwget $u", ["en"]),
        ("if [ -f x ]; then u=http://h/de; else u=http://h/de; fi\nwget $u", ["de"]),
        ("lang=en\nif [[ ${lang} == de ]]; then wget http://h/de; fi", []),
        ("lang=en\n[ $lang = de ] && wget http://h/de", ["de"]),
        ("stage=1\nif [ ${stage} -le -1 ]; then wget http://h/a; fi", ["a"]),
        ("f() { local u=$1; wget $u/$2; }\nf http://h a\nf http://h b", ["a", "b"]),
        ("( u=http://h/a; wget $u )\nwget http://h/b | tee log", ["a", "b"]),
        ("opt=x\nset -- a b\nshift\nwget http://h/$1 http://h/$opt", ["b", "x"]),
        ("x=http://h\nx+=/a\nwget $x", ["a"]),
        ("wget http://h/a\nwget http://h/a", ["a"]),
        ("e=\nwget http://h/${e:-d}", ["d"]),
    ],
)
def test_addresses_that_are_certain(recipe, data, expected):
    done = prepared(recipe, data)
    assert [path for _, path in urls(done)] == expected
    assert done.downloads.todo == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("wget $url", "value of url is not certain"),
        ("wget http://h/$(date)", "runs a command"),
        ("wget http://h/`date`", "runs a command"),
        ("wget http://h/$((1+1))", "computes something"),
        ("wget http://h/$1", "cannot take"),
        ("if [ -f x ]; then u=http://h/a; else u=http://h/b; fi\nwget $u", "u is not certain"),
        ("u=http://h/a\n[ -f x ] && u=http://h/b\nwget $u", "u is not certain"),
        ("while read -r u; do wget $u; done < list", "u is not certain"),
        ("for u in $(cat list); do wget $u; done", "u is not certain"),
        ("u=http://h; u=$u/$u\nread u\nwget $u", "u is not certain"),
        ('wget --header="Token $T" http://h/a', "more than an address"),
        ("wget -i list", "more than an address"),
        ("curl -d a=b http://h/a", "more than an address"),
        ("curl -F a=b http://h/a", "more than an address"),
        ("git clone https://h/r", "not what git does"),
        ("gdown 'https://drive.google.com/uc?id=1'", "not what gdown does"),
        ("wget ftp://h/a", "cannot take ftp://h/a"),
        ("wget http://h/", "cannot take http://h/"),
        ("wget 'http://[/a'", "cannot take"),
        ("wget http://h/a.rar; unzip a.rar", "`extract` takes tar and zip"),
        ("unzip mine.zip", "none of the files that are downloaded"),
        ("tar xf $archive", "value of archive is not certain"),
        ("wget http://h/a.zip; wget http://mirror/a.zip", "is it another address"),
    ],
)
def test_what_is_not_certain_is_marked(recipe, data, why):
    done = prepared(recipe, data)
    (todo,) = done.downloads.todo
    assert why in todo.why
    builder = done.files["dataset/builder.py"]
    assert f"# TODO local/data.sh:{todo.place.line}: " in builder
    (finding,) = [f for f in done.findings if f.place == todo.place and f.decide]
    assert "dataset/builder.py" in finding.decide


def test_archives_by_patterns_and_names_whose_directory_is_not_known(recipe):
    done = prepared(
        recipe, 'wget http://h/{a,b}.zip\nunzip "$1/$D/a.zip"\nfor f in *.zip; do :; done\n'
        "wget http://h/c.tar.bz2\ntar xf ./*.tar.bz2\n"
    )  # fmt: skip
    assert done.downloads.archives == ["a.zip", "c.tar.bz2"]


LONG = f"""\
wget http://h/a.zip; unzip a.zip
wget http://h/{"long" * 30}.zip $not_known {"words " * 30}
unzip {"long" * 30}.zip
wget http://mirror/a.zip
"""


@pytest.fixture(params=["wget $x\n", LONG])
def migrated(request, recipe, tmp_path):
    recipe.write("local/data.sh", request.param)
    recipe.write("cmd.sh", "export train_cmd=run.pl\n")
    recipe.write("run.sh", "./asr.sh --train_set tr --test_sets 'dev test' \"$@\"\n")
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["migrate", str(recipe.path), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


def run(directory, *words):
    return subprocess.run(
        [sys.executable, "run.py", *words], cwd=directory, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, check=False,
    )  # fmt: skip


def test_what_is_written_is_a_recipe(migrated):
    config = yaml.safe_load((migrated / "conf/training.yaml").read_text())
    assert [entry["name"] for entry in config["dataset"]["test"]] == ["dev", "test"]
    shown = run(
        migrated, "--stages", "create_dataset", "--training_config", "conf/training.yaml",
        "--dry_run",
    )  # fmt: skip
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "create_dataset" in shown.stdout
    ruff = [sys.executable, "-m", "ruff"]
    pyproject = str(Path(__file__).parents[2] / "pyproject.toml")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [*ruff, *command, "--config", pyproject, migrated], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def test_the_builder_fetches_unpacks_and_says_what_is_left(recipe, tmp_path, monkeypatch):
    done = prepared(recipe, "wget http://h/a.zip\nunzip a.zip\n")
    out = tmp_path / "out"
    builder = done.files["dataset/builder.py"].replace("http://h/", (tmp_path / "h").as_uri() + "/")
    for name, text in {**done.files, "dataset/builder.py": builder}.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    (tmp_path / "h").mkdir()
    with zipfile.ZipFile(tmp_path / "h/a.zip", "w") as archive:
        archive.writestr("text", "one")
    ended = run(out, "--stages", "create_dataset", "--training_config", "conf/training.yaml")
    assert ended.returncode == 1
    assert "dataset/builder.py: build is not written yet" in ended.stderr
    assert (out / "data/source/a/text").read_text() == "one"
    assert (out / "downloads/built.json").exists()


def test_data_that_espnet2_has_made_are_read_where_they_are(recipe, tmp_path):
    recipe.write("data/tr\N{LATIN SMALL LETTER E WITH ACUTE}/utt2spk", "a a\n")
    recipe.write("data/tr\N{LATIN SMALL LETTER E WITH ACUTE}/wav.scp", "a a.flac\n")
    recipe.write("data/local/utt2spk", "a a\n")
    done = prepared(recipe, "")
    assert done.existing == ["tr\N{LATIN SMALL LETTER E WITH ACUTE}"]
    out = tmp_path / "out"
    for name, text in done.files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    code = (
        "from espnet3.components.data.dataset_module import load_dataset_module\n"
        "module = load_dataset_module(None, '.')\n"
        "print(module.DatasetBuilder().is_built(recipe_dir='.'))\n"
        f"print(module.Dataset({done.existing[0]!a}).utt_id(0))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=out, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert found.stdout.split() == ["True", "a"], found.stderr


def test_a_run_py_that_is_there_is_left_alone(recipe):
    recipe.write("run.py", "mine")
    assert "run.py" not in prepared(recipe, "").files


def test_data_sets_that_are_not_certain_are_asked_for(recipe):
    recipe.write("cmd.sh", "train_cmd=run.pl\n")
    recipe.write("run.sh", "./asr.sh --test_sets $(cat sets)\n")
    done = migrate(recipe.path).preparation
    assert any("placeholder" in f.decide for f in done.findings)
    assert any("there is none" in f.went_to for f in done.findings)


def test_the_report_lists_lines_jobs_and_what_is_not_recognised(recipe, tmp_path):
    recipe.write("cmd.sh", "train_cmd=run.pl\n")
    recipe.write("run.sh", "./asr.sh\n")
    recipe.write(
        "local/data.sh", "sort a | uniq > `b`\nfrobnicate x\n$train_cmd JOB=1:$nj l x JOB\n"
    )
    out = tmp_path / "out"
    shown = CliRunner().invoke(main, ["migrate", str(recipe.path), "--out", str(out)])
    text = (out / "MIGRATION.md").read_text()
    assert "| local/data.sh:1 | `` sort a \\| uniq > `b` `` | text | plain code" in text
    assert "- `frobnicate x` (local/data.sh:2): whether it makes data" in text
    assert "| local/data.sh:3 | `$train_cmd JOB=1:$nj l x JOB` | a provider and runner" in text
    assert "local/data.sh:2: frobnicate x: not recognised" in shown.output
