"""What would be submitted to each batch scheduler, made by the real client library."""

import os
import re
import shlex
import sys
import threading
from pathlib import Path

import pytest
import yaml

from espnet3.errors import ConfigError, RunStopped
from espnet3.parallel import clusters
from espnet3.parallel.backends import asking, jobqueue, preview, ssh_options, walltime
from espnet3.parallel.backends.environment import THREAD_VARIABLES
from espnet3.parallel.backends.job_script import DRIVER, job_script
from espnet3.parallel.backends.jobqueue import SCHEDULERS
from espnet3.parallel.backends.ssh import ssh_command
from espnet3.parallel.config import ParallelConfig, RunConfig, parse_parallel
from espnet3.parallel.worker.entry import _parser

LIMIT = {env: scheduler.example for env, scheduler in SCHEDULERS.items()}


def options(env, **more):
    given = {"memory": "4GB", **({"walltime": LIMIT[env]} if LIMIT[env] else {})}
    return {**given, **more}


@pytest.fixture(autouse=True)
def _no_scheduler_answers(monkeypatch):
    monkeypatch.setattr(asking, "answer", lambda command, gone=None: None)


def script_of(env, tmp_path, **more):
    script = job_script(env, options(env, **more), tmp_path / "logs")
    return script.replace("''", "'") if env == "htcondor" else script


HEADERS = {
    "slurm": ["#SBATCH -J espnet3", "#SBATCH -p fast", "#SBATCH --cpus-per-task=4",
              "#SBATCH --mem=4G", "#SBATCH -t 04:00:00", "#SBATCH --open-mode=append",
              "#SBATCH --x", "#SBATCH -o {logs}/espnet3-%J.out"],
    "pbs": ["#PBS -N espnet3", "#PBS -q fast", "#PBS -l select=1:ncpus=4:mem=3815MB",
            "#PBS -l walltime=04:00:00", "#PBS -o {logs}/", "#PBS --x"],
    "moab": ["#PBS -N espnet3", "#PBS -q fast", "#PBS -l walltime=04:00:00", "#PBS --x"],
    "sge": ["#$ -N espnet3", "#$ -q fast", "#$ -l h_rt=04:00:00", "#$ -o {logs}/", "#$ -notify",
            "#$ --x"],
    "lsf": ["#BSUB -J espnet3", "#BSUB -q fast", "#BSUB -n 4", "#BSUB -W 4:00",
            "#BSUB -o {logs}/lsf-0-%J.out", "#BSUB --x"],
    "oar": ["#OAR -n espnet3", "#OAR -q fast", "#OAR -l /nodes=1/core=4,walltime=4:00:00",
            "#OAR -O {logs}/espnet3-%jobid%.out", "#OAR --x"],
}  # fmt: skip


@pytest.mark.parametrize("env", HEADERS)
def test_directives(env, tmp_path):
    lines = script_of(
        env, tmp_path, queue="fast", cores=4, job_extra_directives=["--x"]
    ).splitlines()
    for line in HEADERS[env]:
        assert line.format(logs=tmp_path / "logs") in lines


def test_condor_submit_file(tmp_path):
    more = {"cores": 4, "job_extra_directives": {"+Group": '"speech"'}}
    lines = script_of("htcondor", tmp_path, **more).splitlines()
    for line in (
        "MY.DaskWorkerCores = 4",
        "MY.DaskWorkerMemory = 4000000000",
        "MY.DaskWorkerDisk = 1000000000",
        f"LogDirectory = {tmp_path / 'logs'}",
        '+Group = "speech"',
    ):
        assert line in lines


@pytest.mark.parametrize("env", SCHEDULERS)
def test_worker_gets_the_drivers_python_modules_directory_and_threads(env, tmp_path, monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "the recipe")
    (tmp_path / "the recipe").mkdir()
    script = script_of(env, tmp_path, cores=4, job_script_prologue=["module load cuda"])
    order = [
        script.index(part)
        for part in (
            "export OMP_NUM_THREADS=4",
            "export MKL_NUM_THREADS=3",
            f"export PYTHONPATH='{tmp_path / 'the recipe'}:",
            f"cd {os.getcwd()}",
            "module load cuda",
            f"exec {sys.executable} -m espnet3.parallel.worker.entry tls://",
        )
    ]
    assert order == sorted(order)


@pytest.mark.parametrize("env", SCHEDULERS)
def test_worker_command_is_one_that_the_entry_reads(env, tmp_path):
    script = script_of(env, tmp_path, interface="ib0", worker_extra_args=["--nanny-port", "7000:"])
    command = re.search(r"worker\.entry (.*)", script)[1].rstrip("'\"")
    arguments = _parser().parse_args(shlex.split(command))
    assert arguments.name == f"{env}-0"
    assert arguments.nthreads == 1
    assert arguments.memory_limit == "3.73GiB"
    assert arguments.death_timeout == "120"
    assert "TMPDIR" in arguments.local_directory
    assert (arguments.interface, arguments.port) == ("ib0", "7000:")
    assert arguments.drain_after == (None if env == "htcondor" else 4 * 3600 - 120)


@pytest.mark.parametrize("env", SCHEDULERS)
def test_every_default_gives_way(env, tmp_path):
    script = script_of(
        env,
        tmp_path,
        log_directory=str(tmp_path / "mine"),
        shared_temp_directory=str(tmp_path / "keys"),
        local_directory="/scratch",
        death_timeout=30,
        python="/opt/python",
        worker_extra_args=["--drain-after", "60"],
        **({} if env == "htcondor" else {"job_name": "decode"}),
    )
    assert f"{tmp_path / 'logs'}" not in script
    assert "exec /opt/python -m" in script
    assert "--death-timeout 30 --local-directory /scratch" in script
    arguments = re.search(r"worker\.entry (.*)", script)[1].rstrip("'\"")
    assert _parser().parse_args(shlex.split(arguments)).drain_after == 60
    assert "decode" in script or env == "htcondor"


@pytest.mark.parametrize("env", SCHEDULERS)
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"memry": "4GB"}, "has no such option; did you mean memory?"),
        ({"memory": None}, "parallel.options.memory: is not set"),
        ({"n_workers": 3}, "set parallel.n_workers instead"),
        ({"processes": 2}, "one job is one worker"),
        ({"cores": "4"}, "must be a whole number, 1 or more, not the text '4'"),
        ({"env_extra": []}, "write job_script_prologue"),
        ({"security": True}, "set parallel.security instead"),
        ({"job_script_prologue": "module load x"}, "must be a list"),
        ({"job_directives_skip": "-n"}, "must be a list of texts, not the text '-n'"),
        ({"job_extra_directives": "--gres=gpu:1"}, "not the text '--gres=gpu:1'"),
        ({"scheduler_options": "10.1.2.3"}, "must be a block of keys"),
        ({"memory": "8 gigs"}, "must be an amount with its unit, as in `memory: 4GB`"),
        ({"memory": 8}, "must be an amount with its unit"),
        ({"memory": True}, "must be an amount with its unit, as in `memory: 4GB`, not true"),
        ({"log_directory": "/a b"}, "cannot have spaces"),
    ],
)
def test_options_are_checked_before_anything_is_submitted(env, wrong, words):
    block = {"env": env, "options": options(env, **wrong)}
    with pytest.raises(ConfigError) as caught:
        parse_parallel(block)
    assert f"parallel.options.{next(iter(wrong))}: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("partition", "queue"), ("time", "walltime"), ("gres", "job_extra_directives")],
)
def test_words_of_slurm_are_answered_with_the_option_of_that_meaning(wrong, meant):
    with pytest.raises(ConfigError, match=rf"has no such option; did you mean {meant}\?"):
        parse_parallel({"env": "slurm", "options": options("slurm", **{wrong: "x"})})


@pytest.mark.parametrize("env", [env for env, example in LIMIT.items() if example])
def test_walltime_that_nobody_knows_is_refused_by_name(env, tmp_path):
    with pytest.raises(ConfigError, match=r"parallel\.options\.walltime: is not set, and"):
        job_script(env, {"memory": "4GB"}, tmp_path)
    with pytest.raises(ConfigError, match=r"options\.walltime: must be a number of seconds, or"):
        job_script(env, {"memory": "4GB", "walltime": "four hours"}, tmp_path)
    assert LIMIT[env].lstrip("0") in job_script(env, {"memory": "4GB", "walltime": 14400}, tmp_path)


@pytest.mark.parametrize("queue", ["cpu.q", "*.q", "[cg]pu.q@node1", "gpu.q,cpu.?"])
def test_queues_may_be_patterns(queue, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "answer", lambda command, gone=None: "cpu.q\ngpu.q\n")
    assert f"#$ -q {queue}\n" in script_of("sge", tmp_path, queue=queue)


@pytest.mark.parametrize(
    ("env", "answer", "line"),
    [
        ("slurm", "cpu*|1-00:00:00\nlow|2:00\n", "#SBATCH -t 1-00:00:00"),
        ("slurm", "cpu*|infinite\n", "#SBATCH -t 0"),
        ("sge", "s_rt  INFINITY\nh_rt                  8:0:0\n", "#$ -l h_rt=8:0:0"),
    ],
)
def test_unset_walltime_is_the_limit_of_the_queue(env, answer, line, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "answer", lambda command, gone=None: answer)
    monkeypatch.setattr(jobqueue, "_check_queue", lambda env, queue: None)
    queue = {"queue": "all.q"} if env == "sge" else {}
    assert line in job_script(env, {"memory": "4GB", **queue}, tmp_path).splitlines()


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ({"walltime": "2:01:00"}, True),
        ({"walltime": "2:00:00"}, False),
        ({"walltime": 3 * 3600}, True),
        ({"walltime": "0"}, False),  # as long as the queue allows
        ({"walltime": "3:00:00", "queue": "cpu,long"}, False),
        ({"walltime": "3:00:00", "job_extra_directives": ["--qos=long"]}, False),
    ],
)
def test_walltime_that_the_queue_does_not_allow_is_refused(more, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "answer", lambda command, gone=None: "cpu*|2:00:00\n")
    monkeypatch.setattr(jobqueue, "_check_queue", lambda env, queue: None)
    given = {"memory": "4GB", "queue": "cpu", **more}
    if not refused:
        job_script("slurm", given, tmp_path)
        return
    with pytest.raises(ConfigError, match=r"is more than the queue 'cpu' allows \(2:00:00\)"):
        job_script("slurm", given, tmp_path)


SINFO = """#!/bin/sh
case "$*" in *%m*) echo 'cpu*|4|8000\nbig|16|4000\nbig|2|64000' ;; *) echo 'cpu*|infinite' ;; esac
"""


@pytest.mark.parametrize(
    ("more", "slurm_refuses", "words"),
    [
        ({"memory": "7GB", "cores": 4}, True, None),
        ({"memory": "90GB"}, False, None),  # a site may send it elsewhere
        ({"memory": "90GB", "job_extra_directives": ["--hold"]}, True, None),
        ({"memory": "90GB", "job_mem": "1GB"}, True, None),
        (
            {"memory": "90GB"},
            True,
            "no node of the default queue has 1 core and 86016 MiB of memory; the largest has 4 "
            "cores and 8000 MiB (allocation failure: Requested node configuration is not avail",
        ),
        (
            {"queue": "big", "memory": "8GB", "cores": 8},
            True,
            "no node of the queue 'big' has 8 cores and 8192 MiB of memory; the largest has 16 "
            "cores and 4000 MiB, another 2 cores and 64000 MiB",
        ),
    ],
)
def test_job_that_fits_no_node_is_refused_with_what_the_largest_has(
    more, slurm_refuses, words, tmp_path, monkeypatch
):
    monkeypatch.undo()
    refuses = "echo 'allocation failure: Requested node configuration is not available' >&2; exit 1"
    sbatch = f'#!/bin/sh\ncat > "{tmp_path}/asked"\n' + (refuses if slurm_refuses else "")
    for name, text in {"sinfo": SINFO, "sbatch": sbatch}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(jobqueue, "_check_queue", lambda env, queue: None)
    given = {"walltime": "10", **more}
    if words is None:
        assert "worker.entry" in job_script("slurm", given, tmp_path)
        return
    with pytest.raises(ConfigError, match=re.escape(words)):
        job_script("slurm", given, tmp_path)
    assert "#SBATCH --mem=" in (tmp_path / "asked").read_text()


def test_a_queue_without_a_limit_needs_no_walltime(tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "answer", lambda command, gone=None: "h_rt  INFINITY\n")
    monkeypatch.setattr(jobqueue, "_check_queue", lambda env, queue: None)
    script = job_script("sge", {"memory": "4GB", "queue": "all.q"}, tmp_path)
    assert "h_rt" not in script
    assert "--drain-after" not in script


@pytest.mark.parametrize(
    ("text", "units", "seconds"),
    [
        ("30", walltime.SLURM, 1800),
        ("30:05", walltime.SLURM, 1805),
        ("1-2", walltime.SLURM, 93600),
        ("2-12:30", walltime.SLURM, 217800),
        ("90", walltime.HMS, 90),
        ("1:00:00", walltime.HMS, 3600),
        ("30", walltime.LSF, 1800),
        ("2:30", walltime.LSF, 9000),
        ("2", walltime.OAR, 7200),
        ("1:00:00:00", walltime.MOAB, 86400),
    ],
)
def test_walltimes_are_read_as_each_scheduler_does(text, units, seconds):
    assert walltime.in_seconds(text, units) == seconds
    assert walltime.in_seconds(walltime.as_text(seconds, units), units) == seconds


@pytest.mark.parametrize("env", SCHEDULERS)
def test_the_documented_block_makes_a_job_script(env, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()
    block = yaml.safe_load(
        page.partition(f"<!-- backend: {env} -->\n```yaml\n")[2].partition("```")[0]
    )
    parallel, _ = parse_parallel(block["parallel"])
    assert parallel.env == env
    assert "worker.entry tls://" in job_script(env, parallel.options, tmp_path)


def test_ssh_runs_the_same_entry_in_any_login_shell(monkeypatch):
    for name in THREAD_VARIABLES:  # the user's own would be kept
        monkeypatch.delenv(name, raising=False)
    page = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()
    block = yaml.safe_load(
        page.partition("<!-- backend: ssh -->\n```yaml\n")[2].partition("```")[0]
    )
    parallel, _ = parse_parallel(block["parallel"])
    options = {**ssh_options.DEFAULTS, **parallel.options, "job_script_prologue": ["echo 'a b'"]}
    *ssh, host, command = ssh_command("node1", "tls://driver:1", "ssh-0", options)
    assert (ssh, host) == (["ssh", "-o", "BatchMode=yes"], "node1")
    script = shlex.split(command.removeprefix("exec sh -c "))[0].splitlines()
    assert "export OMP_NUM_THREADS=4" in script
    assert "echo 'a b'" in script
    arguments = _parser().parse_args(shlex.split(script[-1].partition("worker.entry ")[2]))
    assert (arguments.name, arguments.leave_at_eof) == ("ssh-0", True)
    assert arguments.tls_from_stdin


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "parallel.options.hosts: is not set"),
        ({"hosts": "node1"}, "must be a list of host names"),
        ({"hosts": ["a"], "memry": 1}, "ssh has no such option; did you mean memory?"),
        ({"hosts": ["a"], "cores": 0}, "must be a whole number"),
    ],
)
def test_ssh_options_are_checked(options, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        parse_parallel({"env": "ssh", "options": options})


@pytest.mark.parametrize("env", SCHEDULERS)
def test_a_host_without_the_scheduler_is_refused(env, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    config = ParallelConfig(env, 2, options(env))
    with pytest.raises(ConfigError, match=r"submits jobs with `\w+`, which is not on the PATH"):
        clusters.start_cluster(config, tmp_path)


def test_other_threads_import_the_library_only_if_the_main_one_has(monkeypatch):
    monkeypatch.delitem(sys.modules, "dask_jobqueue", raising=False)
    errors = []

    def check():
        try:
            jobqueue.cluster_class("slurm")
        except ConfigError as error:
            errors.append(str(error))

    thread = threading.Thread(target=check)
    thread.start()
    thread.join()
    assert "import it at the top of the program" in errors[0]


CLIENT = """#!/bin/sh
# Keeps what it is given to submit: a file, its standard input, or the words themselves.
for last; do :; done
if [ -f "$last" ]; then cat "$last"; elif [ $# = 0 ]; then cat; else printf '%s\\n' "$@"; fi \
    > "{kept}"
echo 'OAR_JOB_ID=7, submitted to cluster 7'
"""


@pytest.fixture
def submitted(tmp_path, monkeypatch):
    """Let the clients of all schedulers keep what is submitted, there."""
    kept = tmp_path / "submitted"
    place = tmp_path / "bin"
    place.mkdir()
    for env in SCHEDULERS:
        job = jobqueue.cluster_class(env).job_cls
        for command, text in [
            (job.cancel_command, "#!/bin/sh\n"),
            (job.submit_command, CLIENT.format(kept=kept)),
        ]:
            (place / command.split()[0]).write_text(text)
            (place / command.split()[0]).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return kept


@pytest.mark.parametrize("security", [None, False])
@pytest.mark.parametrize("env", SCHEDULERS)
def test_the_script_that_is_shown_is_the_one_that_is_submitted(env, tmp_path, submitted, security):
    given = options(env, cores=2, interface="lo", job_script_prologue=["module load cuda"])
    config = ParallelConfig(env, 1, given, security=security)
    (shown,) = preview.starts(config, RunConfig(), tmp_path / "logs")
    assert not submitted.exists()
    cluster = clusters.start_cluster(config, tmp_path / "logs")
    address = cluster.scheduler_address.partition("://")[2]
    cluster.close()
    text = submitted.read_text().replace(address, DRIVER)
    text = re.sub(r"/\.tls-\w+/", "/.tls-<key>/", text)
    if env == "oar":  # the lines that are directives come as options
        lines = shown.text.splitlines()
        words = [shlex.split(line.removeprefix("#OAR ")) for line in lines if "#OAR " in line]
        script = [line for line in lines if not line.startswith("#")]
        assert text.rstrip().splitlines() == [*sum(words, []), *script]
    else:
        assert text.rstrip("\n") == shown.text


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"interface": "ib99"}, "options.interface: {host} has no network interface 'ib99'; "),
        (
            {"scheduler_options": {"interface": "ib99"}},
            "scheduler_options.interface: {host} has no network interface 'ib99'; ",
        ),
        (
            {"scheduler_options": {"host": "192.0.2.77"}},
            "scheduler_options: {host} cannot listen at '192.0.2.77' (Cannot assign requested",
        ),
    ],
)
@pytest.mark.parametrize("env", ["slurm", "ssh"])
def test_driver_that_cannot_listen_there_is_refused_before_anything_is_submitted(
    env, more, words, tmp_path, submitted
):
    given = {"hosts": ["a"], "ssh_command": "true"} if env == "ssh" else options(env)
    config = ParallelConfig(env, 1, {**given, **more})
    words = re.escape(words.format(host=os.uname().nodename))
    with pytest.raises(ConfigError, match=words):
        [*preview.starts(config, RunConfig(), tmp_path / "logs")]
    with pytest.raises(ConfigError, match=words):
        clusters.start_cluster(config, tmp_path / "logs")
    assert not submitted.exists()
    assert not [*tmp_path.glob("logs/.tls-*")]


def test_driver_listens_on_the_network_that_is_its_own(tmp_path, submitted):
    """Where workers have theirs under another name."""
    given = options("slurm", interface="ib99", scheduler_options={"interface": "lo"})
    cluster = clusters.start_cluster(ParallelConfig("slurm", 1, given), tmp_path)
    address = cluster.scheduler_address
    cluster.close()
    assert address.startswith("tls://127.0.0.1:")
    assert "--interface ib99" in submitted.read_text()


@pytest.mark.parametrize("env", SCHEDULERS)
def test_showing_a_script_writes_nothing(env, tmp_path):
    logs = tmp_path / "exp" / "logs"
    script = job_script(env, options(env), logs)
    assert str(logs) in script or env == "moab"  # which has no option for it
    assert not logs.parent.exists()


def test_log_directory_that_cannot_be_made_stops_the_run_in_words(tmp_path, submitted):
    (tmp_path / "file").write_text("")
    config = ParallelConfig("slurm", 1, options("slurm", log_directory=f"{tmp_path}/file/logs"))
    with pytest.raises(RunStopped, match="file/logs: Not a directory"):
        clusters.start_cluster(config, tmp_path)
    assert not submitted.exists()


def test_more_workers_than_are_shown_are_named(submitted, tmp_path):
    config = ParallelConfig("slurm", 3, options("slurm"))
    (shown,) = preview.starts(config, RunConfig(), tmp_path)
    what = "job script of worker slurm-0, submitted by sbatch; likewise slurm-1, slurm-2"
    assert shown.what == what


def test_one_command_is_shown_for_each_host_that_ssh_reaches(tmp_path, monkeypatch):
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\n")
    ssh.chmod(0o755)
    given = {"hosts": ["a", "b", "c"], "ssh_command": str(ssh)}
    config = ParallelConfig("ssh", 4, given)
    shown = [*preview.starts(config, RunConfig(), tmp_path)]
    assert [start.what for start in shown] == [
        "command that starts worker ssh-0 on a; likewise ssh-3",
        "command that starts worker ssh-1 on b",
        "command that starts worker ssh-2 on c",
    ]
    defaults = {**ssh_options.DEFAULTS, **given}
    assert shlex.split(shown[1].text) == ssh_command("b", f"tls://{DRIVER}", "ssh-1", defaults)


def test_local_workers_have_variables_alone(monkeypatch, tmp_path):
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    (shown,) = preview.starts(ParallelConfig(n_workers=4), RunConfig(), tmp_path)
    assert shown.what.startswith("4 processes on this machine with OMP_NUM_THREADS=2, MKL_NUM")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    (shown,) = preview.starts(ParallelConfig("local_gpu", 2), RunConfig(), tmp_path)
    assert shown.what.endswith("; one GPU each, of 3, 5")
    with pytest.raises(ConfigError, match="only 2 GPUs are visible here"):
        [*preview.starts(ParallelConfig("local_gpu", 3), RunConfig(), tmp_path)]
    (shown,) = preview.starts(ParallelConfig(), RunConfig(), tmp_path)
    assert shown.what == "in this process, without workers"
