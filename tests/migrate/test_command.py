"""`espnet3 migrate`, as it is called."""

import pytest
from click.testing import CliRunner

from espnet3.commands.main import main
from espnet3.migrate.explain import WORDS
from espnet3.parallel.config_check import REPLACED


def call(*words):
    return CliRunner().invoke(main, ["migrate", *map(str, words)])


def files(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


@pytest.fixture
def small(recipe):
    recipe.write("cmd.sh", 'export decode_cmd="slurm.pl --mem 1G"\nexport cuda_cmd=$(x)\n')
    recipe.write(
        "conf/slurm.conf", "command sbatch\noption mem=* --mem $0\noption gpu=0 -p `q`|a\n"
    )
    return recipe


def test_it_writes_blocks_and_a_report_and_leaves_the_recipe_alone(small):
    before = files(small.path)
    done = call(small.path)
    assert done.exit_code == 0
    out = small.path / "migrated"
    assert files(out) == ["MIGRATION.md", "conf/parallel_slurm.yaml"]
    assert [f for f in files(small.path) if not f.startswith("migrated/")] == before
    assert "cmd.sh:2: export cuda_cmd=$(x): it runs a command" in done.output


def test_the_report_has_every_setting_and_what_was_not_read(small, tmp_path):
    call(small.path, "--out", tmp_path / "out")
    text = (tmp_path / "out/MIGRATION.md").read_text()
    assert "| `--mem 1G` | cmd.sh:1 | carried over | as `option mem=* --mem $0` " in text
    assert "| conf/slurm.conf:3 | not carried over | it runs a command" in text
    assert "`` option gpu=0 -p `q`\\|a ``" in text
    assert "Training configs" in text.partition("## Not read")[2]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {3, 7}


def test_nothing_is_overwritten_unless_told(small):
    assert call(small.path).exit_code == 0
    report = small.path / "migrated/MIGRATION.md"
    report.write_text("mine")
    (small.path / "migrated/conf/parallel_slurm.yaml").unlink()
    refused = call(small.path)
    assert refused.exit_code == 1
    assert "MIGRATION.md already" in refused.output
    assert files(small.path / "migrated") == ["MIGRATION.md"]
    assert call(small.path, "--overwrite").exit_code == 0
    assert report.read_text() != "mine"


@pytest.mark.parametrize("make", [None, b"\0", "directory"])
def test_what_is_no_recipe_is_refused_in_one_line(recipe, make):
    if make == "directory":
        (recipe.path / "cmd.sh").mkdir(parents=True)
    elif make is not None:
        recipe.write("cmd.sh", make)
    done = call(recipe.path)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert str(recipe.path) in done.output


def test_a_link_to_nothing_is_told(recipe):
    recipe.path.mkdir()
    (recipe.path / "cmd.sh").symlink_to("../TEMPLATE/cmd.sh")
    assert "a link to nothing" in call(recipe.path).output


@pytest.mark.parametrize("words", [[], ["here", "--explain", "nj"]])
def test_wrong_usage(words):
    assert call(*words).exit_code == 2


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_explained(word):
    done = call("--explain", word)
    assert done.exit_code == 0
    assert done.output.startswith(f"{word}: write ")
    assert len(done.output.splitlines()) == 2


def test_the_words_of_a_config_have_one_text():
    for word in ("nj", "inference_nj", "ngpu", "gpu_inference", "train_cmd", "decode_cmd"):
        assert REPLACED[word] in call("--explain", word).output


@pytest.mark.parametrize(
    ("word", "like"),
    [("--nj", "nj"), ("utils/queue.pl", "queue.pl"), ("slurm.conf", "queue.conf"), ("job", "JOB")],
)
def test_a_word_as_it_stands_in_a_script(word, like):
    assert (
        call("--explain", word).output.partition(": ")[2]
        == (call("--explain", like).output.partition(": ")[2])
    )


def test_an_unknown_word_gets_the_nearest():
    done = call("--explain", "infrence_nj")
    assert done.exit_code == 1
    assert "did you mean inference_nj?" in done.output
