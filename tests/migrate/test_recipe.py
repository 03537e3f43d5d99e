"""Whole recipes: the blocks they become, and that nothing is lost on the way."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from espnet3.errors import ConfigError
from espnet3.migrate.findings import Fate
from espnet3.migrate.recipe import migrate
from espnet3.parallel.config import parse_parallel

QUEUE = """\
command qsub -v PATH -cwd -S /bin/bash -j y -l arch=*64*
option name=* -N $0
option mem=* -l mem_free=$0,ram_free=$0
option mem=0
option num_threads=* -pe smp $0
option num_threads=1
option max_jobs_run=* -tc $0
option num_nodes=* -pe mpi $0
default gpu=0
option gpu=0
option gpu=* -l gpu=$0 -q g.q
"""
SLURM = """\
command sbatch --export=PATH
option name=* --job-name $0
option time=* --time $0
option mem=* --mem-per-cpu $0
option mem=0
option num_threads=* --cpus-per-task $0
option num_threads=1 --cpus-per-task 1
option num_nodes=* --nodes $0
default gpu=0
option gpu=0 -p cpu
option gpu=* -p gpu --gres=gpu:$0
"""
PBS = """\
command qsub -V -v PATH -S /bin/bash
option mem=* -l mem=$0
option num_threads=* -l ncpus=$0
option num_nodes=* -l nodes=$0:ppn=1
option time=* -l walltime=$0
default gpu=0
option gpu=0
option gpu=* -l ngpus=$0
"""
CONFS = {"queue": QUEUE, "slurm": SLURM, "pbs": PBS}


def migrated(recipe, **commands):
    for name, text in CONFS.items():
        if not (recipe.path / f"conf/{name}.conf").exists():
            recipe.write(f"conf/{name}.conf", text)
    recipe.write("cmd.sh", "".join(f'export {k}="{v}"\n' for k, v in commands.items()))
    return migrate(recipe.path)


def parallel(done, file):
    return yaml.safe_load(done.files[f"conf/{file}.yaml"])["parallel"]


FULL = "--mem 4G --num_threads 2 --max-jobs-run 20"
BASE = ["-v PATH", "-S /bin/bash"]


@pytest.mark.parametrize(
    ("name", "command", "file", "expected"),
    [
        ("decode_cmd", f"run.pl {FULL}", "parallel_local", {"env": "local", "n_workers": 20}),
        ("decode_cmd", "run.pl -tc 3", "parallel_local", {"env": "local", "n_workers": 3}),
        ("cuda_cmd", "run.pl --gpu 1", "parallel_local_gpu", {"env": "local_gpu", "n_workers": 1}),
        (
            "decode_cmd", f"queue.pl {FULL}", "parallel_sge",
            {"env": "sge", "n_workers": 20, "options": {
                "cores": 2, "memory": "4GiB", "walltime": "24:00:00",
                "resource_spec": "arch=*64*,mem_free=4G,ram_free=4G",
                "job_extra_directives": [*BASE, "-pe smp 2"]}},
        ),
        (
            "cuda_cmd", "queue.pl --mem 2G --gpu 1", "parallel_sge_gpu",
            {"env": "sge", "options": {
                "queue": "g.q", "memory": "2GiB",
                "resource_spec": "arch=*64*,gpu=1,mem_free=2G,ram_free=2G",
                "job_extra_directives": BASE}},
        ),
        (
            "train_cmd", "queue.pl -l h_rt=3600,h_vmem=1g -q a.q -P asr -p -5", "parallel_sge_data",
            {"env": "sge", "options": {
                "queue": "a.q", "project": "asr", "memory": "1gB", "walltime": "3600",
                "resource_spec": "arch=*64*,h_vmem=1g",
                "job_extra_directives": [*BASE, "-p -5"]}},
        ),
        (
            "decode_cmd", f"slurm.pl {FULL} --time 1-0:0:0 -A asr", "parallel_slurm",
            {"env": "slurm", "n_workers": 20, "options": {
                "queue": "cpu", "account": "asr", "cores": 2, "memory": "8GiB",
                "walltime": "1-0:0:0", "job_extra_directives": ["--export=PATH"]}},
        ),
        (
            "cuda_cmd", "slurm.pl --mem 500 -c 4 -x n1 -p big", "parallel_slurm_gpu",
            {"env": "slurm", "options": {
                "queue": "gpu", "cores": 4, "memory": "2000MiB",
                "job_extra_directives": ["--export=PATH", "-x n1", "--gres=gpu:1"]}},
        ),
        (
            "decode_cmd", f"pbs.pl {FULL} --time 4:00:00 -q work -A asr", "parallel_pbs",
            {"env": "pbs", "n_workers": 20, "options": {
                "queue": "work", "account": "asr", "cores": 2, "memory": "4GiB",
                "walltime": "4:00:00", "resource_spec": "mem=4G,ncpus=2",
                "job_extra_directives": ["-V", *BASE]}},
        ),
        (
            "train_cmd", "pbs.pl -l select=1:ncpus=4:mem=8gb -l walltime=9:0:0",
            "parallel_pbs_data",
            {"env": "pbs", "options": {
                "cores": 4, "memory": "8GiB", "walltime": "9:0:0",
                "resource_spec": "select=1:ncpus=4:mem=8gb",
                "job_extra_directives": ["-V", *BASE]}},
        ),
    ],
)  # fmt: skip
def test_blocks(recipe, name, command, file, expected):
    done = migrated(recipe, **{name: command})
    assert list(done.files) == [f"conf/{file}.yaml"]
    assert parallel(done, file) == expected


def test_hosts_of_ssh(recipe):
    recipe.write(".queue/machines", "node1\n\nnode2\n")
    done = migrated(recipe, decode_cmd="ssh.pl --mem 1G", cuda_cmd="ssh.pl")
    assert parallel(done, "parallel_ssh") == {
        "env": "ssh",
        "options": {"hosts": ["node1", "node2"]},
    }
    assert "Fate.NEEDLESS" in str(next(f for f in done.findings if "--mem" in f.setting))


def test_ssh_without_hosts_is_not_written(recipe):
    done = migrated(recipe, decode_cmd="ssh.pl")
    assert done.files == {}
    assert [f.went_to for f in done.unmapped] == [
        "there is no .queue/machines with hosts, without which ssh.pl does not run either"
    ]


def test_what_the_recipe_does_not_say_is_a_marked_placeholder(recipe):
    done = migrated(recipe, decode_cmd="pbs.pl")
    assert {*done.decisions["conf/parallel_pbs.yaml"]} == {
        "n_workers", "options.memory", "options.walltime",
    }  # fmt: skip
    marked = [
        line for line in done.files["conf/parallel_pbs.yaml"].splitlines() if "DECIDE" in line
    ]
    assert [line.split()[:2] for line in marked] == [
        ["#", "n_workers:"], ["memory:", "4GB"], ["walltime:", "'24:00:00'"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("queue", "placeholder"), [("a.q", False), ("*.q", True), ("a.q,b.q", True), ("a.q@h", True)]
)
def test_grid_engine_tells_the_limit_of_one_queue_alone(recipe, queue, placeholder):
    done = migrated(recipe, train_cmd=f"queue.pl -q '{queue}'")
    assert ("options.walltime" in done.decisions["conf/parallel_sge_data.yaml"]) is placeholder


def test_every_line_says_where_it_comes_from(recipe):
    text = migrated(recipe, cuda_cmd="queue.pl --mem 2G").files["conf/parallel_sge_gpu.yaml"]
    assert "    queue: g.q  # conf/queue.conf:11\n" in text
    assert "  # conf/queue.conf:1, conf/queue.conf:11, conf/queue.conf:3\n" in text


def test_the_task_script_decides_about_gpus(recipe):
    done = migrated(recipe, decode_cmd="queue.pl --gpu 2")
    assert "queue" not in parallel(done, "parallel_sge")["options"]
    (finding,) = done.unmapped
    assert "task scripts add --gpu 0 behind decode_cmd" in finding.went_to


@pytest.mark.parametrize(
    ("command", "setting", "why"),
    [
        ("queue.pl --time 1:0:0", "--time 1:0:0", "queue.pl would have refused the job"),
        ("queue.pl --num_nodes 2", "-pe mpi 2", "on one host"),
        ("slurm.pl --num-nodes 2", "--nodes 2", "one task on one node"),
        ("pbs.pl --num-nodes 2", "-l nodes=2:ppn=1", "on one node"),
        ("slurm.pl --time soon", "--time soon", "no time as Slurm writes it"),
        ("slurm.pl -D /tmp", "-D /tmp", "driver's directory"),
        ("slurm.pl --max-jobs-run many", "--max_jobs_run many", "no number"),
        ("slurm.pl --mem-per-gpu 4G", "--mem_per_gpu 4G", "refused the job"),
        ("queue.pl --config conf/none.conf", "--config conf/none.conf", "no such file"),
    ],
)
def test_what_cannot_be_carried_over_is_listed(recipe, command, setting, why):
    done = migrated(recipe, train_cmd=command)
    (finding,) = [f for f in done.unmapped if f.setting.startswith(setting)]
    assert why in finding.went_to
    assert finding.place.line is not None


def test_what_a_later_option_replaces_is_listed(recipe):
    done = migrated(recipe, cuda_cmd="queue.pl -q my.q -l gpu=4")
    options = parallel(done, "parallel_sge_gpu")["options"]
    assert (options["queue"], options["resource_spec"]) == ("g.q", "arch=*64*,gpu=1")
    assert [f.setting for f in done.unmapped] == ["-q my.q", "-l gpu=4"]
    assert all("counts" in f.went_to and f.decide for f in done.unmapped)


def test_what_the_command_says_itself_counts_more_than_what_its_gpus_bring(recipe):
    recipe.write("conf/slurm.conf", SLURM.replace("gpu:$0", "gpu:$0 --time 4:0:0"))
    done = migrated(recipe, cuda_cmd="slurm.pl --time 1-0")
    assert parallel(done, "parallel_slurm_gpu")["options"]["walltime"] == "1-0"
    (finding,) = done.unmapped
    assert finding.setting.startswith("--time 4:0:0")
    assert "no fixed order" in finding.went_to


def test_two_numbers_of_cores_are_told(recipe):
    recipe.write("conf/slurm.conf", SLURM.replace("gpu:$0", "gpu:$0 -c $0"))
    done = migrated(recipe, cuda_cmd="slurm.pl --num-threads 4")
    assert parallel(done, "parallel_slurm_gpu")["options"]["cores"] == 4
    assert any("either of the two" in finding.decide for finding in done.findings)


def test_a_conf_that_would_run_something(recipe):
    recipe.write(
        "conf/slurm.conf", "command sbatch -A $(id -gn)\ndefault gpu=0\noption gpu=* -p $P\n"
    )
    done = migrated(recipe, decode_cmd="slurm.pl")
    assert {(str(f.place), f.fate) for f in done.unmapped} == {
        ("conf/slurm.conf:1", Fate.UNMAPPED), ("conf/slurm.conf:3", Fate.UNMAPPED),
    }  # fmt: skip


def test_another_conf_and_another_command(recipe):
    recipe.write("my.conf", "command ssh login qsub -q a.q\noption mem=* -l ram=$0\n")
    done = migrated(recipe, train_cmd="queue.pl --config my.conf --mem 3G")
    assert parallel(done, "parallel_sge_data")["options"]["memory"] == "3GiB"
    assert any("jobs are submitted by qsub" in f.went_to for f in done.unmapped)


def test_without_a_conf_the_script_has_its_own(recipe):
    recipe.write("cmd.sh", 'cuda_cmd="slurm.pl"')
    options = parallel(migrate(recipe.path), "parallel_slurm_gpu")["options"]
    assert (options["queue"], options["walltime"]) == ("gpu", "4:0:0")


def test_no_setting_is_dropped(recipe):
    done = migrated(
        recipe,
        train_cmd="queue.pl --mem 2G",
        cuda_cmd="slurm.pl --num_threads 4 --max-jobs-run 2",
        decode_cmd="pbs.pl -q x",
    )
    told = {str(finding.place) for finding in done.findings}
    for name, text in CONFS.items():
        for number in range(1, len(text.splitlines()) + 1):
            assert f"conf/{name}.conf:{number}" in told
    settings = "\n".join(finding.setting for finding in done.findings)
    for option in ("--mem 2G", "--num_threads 4", "--max_jobs_run 2", "-q x"):
        assert option in settings


def test_confs_that_no_command_reads_are_listed(recipe):
    recipe.write("conf/slurm-2.conf", SLURM)
    recipe.write("conf/fbank.conf", "--sample-frequency=16000")
    done = migrated(recipe, train_cmd="slurm.pl")
    unread = {f.place.file for f in done.findings if f.went_to == "no command of cmd.sh reads it"}
    assert unread == {"conf/slurm-2.conf", "conf/queue.conf", "conf/pbs.conf"}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("conf/slurm.conf", b"\0\1", "binary"),
        ("conf/slurm.conf", b"command sbatch\n# \xff", "not UTF-8"),
        ("conf/slurm.conf", b"#" * 1_000_001, "more than"),
    ],
)
def test_a_conf_that_is_no_text(recipe, name, content, why):
    recipe.write(name, content)
    done = migrated(recipe, decode_cmd="slurm.pl")
    assert any(f.place.file == name and why in f.went_to for f in done.unmapped)


def test_lines_are_those_of_editors(recipe):
    recipe.write("conf/slurm.conf", "# a\u2028b\r\ncommand sbatch -p\x0cq\r\noption gpu=0\r\n")
    done = migrated(recipe, decode_cmd="slurm.pl")
    places = {str(f.place) for f in done.findings if f.place.file == "conf/slurm.conf"}
    assert places == {"conf/slurm.conf:2", "conf/slurm.conf:3"}


@pytest.mark.parametrize("content", [None, b"\0ELF", b"\xff"])
def test_no_recipe(recipe, content):
    recipe.path.mkdir()
    if content is not None:
        recipe.write("cmd.sh", content)
    with pytest.raises(ConfigError, match="egs2/an4/asr1"):
        migrate(recipe.path)


WORDS = st.sampled_from(
    ["command ", "option ", "default ", "gpu", "=", "* ", "$0", "-l ", "-q", "\n", "if ", "fi\n"]
    + ["export ", "train_cmd=", '"', "slurm.pl ", "--mem ", "4G", "\\\n", "$(", "`", ";", "then "]
    + ["[ $cmd_backend = ", "x ]", "else", "#", "'", "é", "-pe ", "--time=", "1:", "0"]
)


@given(cmd=st.lists(WORDS).map("".join), conf=st.lists(WORDS).map("".join))
def test_whatever_is_in_the_files_it_is_told_and_passes_the_check(tmp_path_factory, cmd, conf):
    path = tmp_path_factory.mktemp("recipe")
    (path / "conf").mkdir()
    (path / "cmd.sh").write_text(f'train_cmd="slurm.pl --gpu 1"\n{cmd}')
    (path / "conf/slurm.conf").write_text(f"command sbatch -J a\n{conf}")
    for file, text in migrate(path).files.items():
        parse_parallel(yaml.safe_load(text)["parallel"], source=file)
