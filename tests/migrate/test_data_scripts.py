"""What scripts of data preparation do, as the report lists it; nothing of them is run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet3.migrate.recipe import migrate


def prepared(recipe, data, **files):
    recipe.write("cmd.sh", "export train_cmd=run.pl\n")
    recipe.write("run.sh", "./asr.sh --train_set tr --test_sets 'dev test'\n")
    recipe.write("local/data.sh", data)
    for name, text in files.items():
        recipe.write(f"local/{name.replace('__', '.')}", text)
    return migrate(recipe.path).preparation


def rows(done):
    return [(str(step.place), step.kind.value) for step in done.steps.steps]


def kinds(done):
    return [step.kind.value for step in done.steps.steps]


@pytest.mark.parametrize(
    ("line", "kind", "replaced_by"),
    [
        ("wget http://h/a", "download", "`download`"),
        ("if ! curl -O http://h/a; then exit 1; fi", "download", "`download`"),
        ("git clone https://h/r", "download", "`download`"),
        ("x=$(gdown --id 1)", "download", "`download`"),
        ("cat urls | xargs -n1 wget", "per-file loop", "a provider and runner"),
        ("tar -C d -xzf a.tar.gz", "extraction", "`extract`"),
        ("tar xf a.tar || exit 1", "extraction", "`extract`"),
        ("unzip -q a.zip -d d", "extraction", "`extract`"),
        ("gzip -dc a.gz > a", "extraction", "`extract`"),
        ("tar czf a.tar.gz d", "files", "plain code"),
        ("sox a.wav -r 16k b.wav", "audio", "`format_audio`"),
        ("${sph2pipe} -f wav a.sph > a.wav", "audio", "`format_audio`"),
        ('awk \'{print $1, "sph2pipe -p " $2 " |"}\' a > wav.scp', "audio", "`format_audio`"),
        ('echo "$id flac -c -d $f |" >> wav.scp', "audio", "`format_audio`"),
        ("utils/fix_data_dir.sh data/a", "Kaldi data directory", "`fix_kaldi_dir`"),
        ("./utils/validate_data_dir.sh data/a", "Kaldi data directory", "`read_kaldi_dir("),
        ("$utils/utt2spk_to_spk2utt.pl <a >b", "Kaldi data directory", "`write_kaldi_dir`"),
        ("utils/subset_data_dir.sh data/a 9 data/b", "Kaldi data directory", "choose ids"),
        ("utils/combine_data.sh data/c data/a data/b", "Kaldi data directory", "join the tables"),
        ("utils/some_other.pl a", "Kaldi data directory", ""),
        ("cut -d' ' -f1 a | sort -u > b", "text", "plain code"),
        ("LC_ALL=C sort a > b", "text", "plain code"),
        ("perl -pe 's/a/b/' < a > b", "text", "plain code"),
        ('python3 -c "print(1)" > a', "text", "plain code"),
        ("python3 - <<EOF\nif x: wget\nEOF", "text", "plain code"),
        ("echo a >> data/a/text", "text", "plain code"),
        ("find . -name '*.wav' > a", "text", "plain code"),
        ("find . -name '*.zip' -exec unzip {} \\;", "per-file loop", "a Python loop"),
        ("python local/prep.py a", "script of the recipe", "plain code"),
        ("local/prep.pl a", "script of the recipe", "plain code"),
        ("cp -r a b", "files", "plain code"),
        ("md5sum -c sums", "checksum", "a target of `download`"),
        ("pip install lhotse", "other tools", "install it"),
        ("utils/split_scp.pl a b c", "split into jobs", "a provider and runner"),
        ("$train_cmd JOB=1:$nj log/a.JOB.log sox a", "split into jobs", "n_workers"),
        ("frobnicate --all a", "not recognised", "nothing here knows"),
        ("A=1 frobnicate", "not recognised", "nothing here knows"),
    ],
)
def test_commands(recipe, line, kind, replaced_by):
    done = prepared(recipe, f"set -e\n{line}\n")
    (step,) = done.steps.steps
    assert (str(step.place), step.kind.value) == ("local/data.sh:2", kind)
    assert replaced_by in step.replaced_by


@pytest.mark.parametrize(
    "line",
    [
        "mkdir -p data; cd data", "echo wget is missing", "[ -f a.tar ] && exit 0", "# wget a",
        "if [[ $a == wget || -z tar ]]; then exit; fi", "f() { return 0; }", "((i++))",
        "cat=1", "$skip && exit", "a[wget]=1",
        "x=(wget\n# tar\nb)", "case $1 in wget) exit;; (tar|b) ;; esac",
    ],
)  # fmt: skip
def test_lines_that_make_no_data_are_counted_alone(recipe, line):
    done = prepared(recipe, line)
    assert done.steps.steps == []
    assert not done.steps.findings


def test_loops(recipe):
    done = prepared(
        recipe,
        """\
for set in train test; do
    sort a
done
while read -r id; do cp $id b; done < list
for f in *.wav; do sox $f b; done
for ((i=0; i<3; i++)); do echo $i; done
find a | sort | while read f; do
    echo $f >> list
done
""",
    )
    assert rows(done) == [
        ("local/data.sh:1", "loop over names"), ("local/data.sh:2", "text"),
        ("local/data.sh:4", "per-file loop"), ("local/data.sh:4", "files"),
        ("local/data.sh:5", "per-file loop"), ("local/data.sh:5", "audio"),
        ("local/data.sh:6", "loop over names"),
        ("local/data.sh:7", "text"), ("local/data.sh:7", "per-file loop"),
        ("local/data.sh:8", "text"),
    ]  # fmt: skip
    assert done.steps.steps[1].loop == "for set in train test"


def test_lines_are_found_behind_all_that_the_shell_has(recipe):
    done = prepared(
        recipe,
        """\
help=$(cat << EOF
don't
EOF
)
function a() {
    tar xf a.tar
}
b() (
    wget $1
)
x="$(for i in 1 2; do case $i in 1) echo ")";; esac; done)"
case "$x" in
    a|b) cp a b ;;
    *) unzip a.zip
esac
paste <(cut -f1 a) \\
    <(cut -f2 a) > b  # tar xf
{ a; b; } 2>&1
until false; do gunzip a.gz; break; done
cat <<-'END' > out
\twget
\tEND
mv a b &
""",
    )
    assert rows(done) == [
        ("local/data.sh:1", "text"), ("local/data.sh:11", "loop over names"),
        ("local/data.sh:13", "files"), ("local/data.sh:14", "extraction"),
        ("local/data.sh:16", "text"), ("local/data.sh:17", "text"), ("local/data.sh:16", "text"),
        ("local/data.sh:6", "extraction"), ("local/data.sh:9", "download"),
        ("local/data.sh:19", "extraction"), ("local/data.sh:20", "text"),
        ("local/data.sh:23", "files"),
    ]  # fmt: skip


def test_functions_that_nothing_calls_are_listed_but_not_downloaded_from(recipe):
    done = prepared(recipe, "f() {\n    wget http://h/$1\n}\n")
    assert rows(done) == [("local/data.sh:2", "download")]
    assert done.downloads.targets == []


def test_functions_of_one_name_in_two_scripts_are_both_read(recipe):
    done = prepared(
        recipe,
        "f() {\n    sort a\n}\nlocal/get.sh\n",
        get__sh="f() {\n    wget http://h/$1\n}\nf a.zip\n",
    )
    assert rows(done)[1:] == [("local/get.sh:2", "download"), ("local/data.sh:2", "text")]
    assert [target.path for target in done.downloads.targets] == ["a.zip"]


def test_scripts_that_are_called_are_read(recipe):
    done = prepared(
        recipe,
        "bash local/get.sh a\n. local/more.sh\nlocal/gone.sh\npython3 local/prep.py\n",
        get__sh="local/unpack.pl $1\ncat data.txt\n",
        more__sh="unzip a.zip\n",
        prep__py="import tarfile\n\n# urlopen\nwith tarfile.open(a) as f: pass\n",
        unpack__pl='system("wget $x");\n',
    )
    assert rows(done) == [
        ("local/data.sh:1", "script of the recipe"),
        ("local/get.sh:1", "script of the recipe"), ("local/get.sh:2", "text"),
        ("local/more.sh:1", "extraction"),
        ("local/data.sh:3", "script of the recipe"), ("local/data.sh:4", "script of the recipe"),
        ("local/unpack.pl:1", "other tools"), ("local/prep.py:4", "extraction"),
    ]  # fmt: skip
    assert [str(f.place) for f in done.findings if "not there" in f.went_to] == ["local/gone.sh"]


@pytest.mark.parametrize(
    ("data", "place", "why"),
    [
        (b"\0\1", "local/data.sh", "binary"),
        (b"wget \xff", "local/data.sh:1", "not UTF-8"),
        ("a\nif true; then\n", "local/data.sh:2", "`fi` is missing behind `if`"),
        ("a\n)\n", "local/data.sh:2", "`)` stands alone"),
        ("a\necho 'b\n", "local/data.sh:2", "a `'` is not closed"),
        ('a\nb "$(c\n', "local/data.sh:2", "a `(` is not closed"),
        ("cat <<E\nb\n", "local/data.sh:1", "here-document is missing"),
        ("a >\n", "local/data.sh:1", "nothing stands behind `>`"),
        ("a" + "(" * 200, "local/data.sh:1", "not read as shell"),
        ("( " * 200, "local/data.sh:1", "nested too deeply"),
        ("x=" + "${a:-" * 200, "local/data.sh:1", "nested too deeply"),
        ("local/data.sh\n", "local/data.sh:1", "it calls itself"),
        (
            "for a in $(seq 400); do for b in $(seq 400); do :; done; done",
            "local/data.sh:1",
            "more",
        ),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(recipe, data, place, why):
    done = prepared(recipe, data)
    (finding,) = done.steps.findings
    assert str(finding.place) == place
    assert why in finding.went_to


def test_a_function_that_calls_itself_comes_to_an_end(recipe):
    done = prepared(recipe, "f() { wget http://h/a.zip; f; g; }\ng() { f; }\nf\n")
    assert [target.path for target in done.downloads.targets] == ["a.zip"]


def test_places_where_lists_are_split(recipe):
    recipe.write("cmd.sh", "train_cmd=run.pl\n")
    recipe.write("run.sh", "./asr.sh\n")
    recipe.write("asr.sh", "utils/split_scp.pl a\n")  # the task's
    recipe.write(
        "local/stft.sh",
        "utils/split_scp.pl $scp $split\n${cmd} JOB=1:${nj} log/stft.JOB.log \\\n"
        "    python local/stft.py in.JOB\nfor n in $(seq $nj); do cat out.$n; done > out\n"
        "$cmd JOB=1:$nj log/x.JOB.log local/own.py JOB\n$cmd JOB=1:4 l sox JOB\n",
    )
    jobs = migrate(recipe.path).preparation.jobs
    assert [(str(job.place), job.replaced_by.partition(";")[0]) for job in jobs] == [
        ("local/stft.sh:1", "nothing: items are dealt to workers in short ranges"),
        ("local/stft.sh:2", "`collect_stats` or a runner of your own"),
        ("local/stft.sh:4",
         "nothing: what workers return is put together in the order of the items"),
        ("local/stft.sh:5", "a provider and runner (docs/provider-and-runner.md)"),
        ("local/stft.sh:6", "`format_audio`"),
    ]  # fmt: skip


PIECES = st.sampled_from(
    ["wget ", "tar xf ", "$x", "${x", "}", "${x%.*}", "$(", ")", "(", "`", '"', "'", "\\", "\n"]
    + ["; ", "if ", "then ", "fi ", "for a in ", "do ", "done ", "case ", " in ", "esac ", ";; "]
    + ["<<E\n", "E\n", "| ", "&& ", "> ", "x=", "x=(", "[[ ", " ]]", "((", "))", "{ ", "} ", "f() "]
    + [
        "http://h/a.zip ",
        "http://[ ",
        "{1..3}",
        "{a,b}",
        "local/data.sh ",
        "shift ",
        "set -- ",
        "é",
    ]
    + [
        "#",
        "$1 ",
        "[ $1 = a ] ",
        "while read x; ",
        "${x[@]} ",
        "${x//a/b} ",
        "-O ",
        "$((",
        "a.zip ",
    ]
)


@given(st.lists(PIECES, max_size=25).map("".join))
def test_no_script_ends_it(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("recipe")
    (path / "local").mkdir()
    (path / "cmd.sh").write_text("train_cmd=run.pl\n")
    (path / "local/data.sh").write_text(text)
    for name, content in migrate(path).files.items():
        if name.endswith(".py"):
            compile(content, name, "exec")
