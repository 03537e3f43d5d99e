"""What `cmd.sh` can choose, read without running it."""

import pytest

from espnet3.migrate.cmd_sh import parse_cmd_sh
from espnet3.migrate.findings import Fate


def commands(text):
    read = parse_cmd_sh(text)
    return {
        backend: {name: (c.program, c.options, c.native) for name, c in found.items()}
        for backend, found in read.backends.items()
    }


def told(text):
    return [(str(f.place), f.setting, f.went_to) for f in parse_cmd_sh(text).findings]


BRANCHES = """\
cmd_backend='sge'   # which one

if [ "${cmd_backend}" = local ]; then
    # a comment
    export train_cmd="run.pl"
elif [[ $cmd_backend == "stdout" ]]; then
    export train_cmd=stdout.pl
elif test "$cmd_backend" = sge || [ "$cmd_backend" = ge ]
then
    train_cmd="utils/queue.pl --mem 2G \\
        --max-jobs-run 20 -q 'long.q'"; export train_cmd
    export cuda_cmd='queue.pl -pe smp 4 -V -l h_rt=1:0:0'
else
    echo "$0: no such backend=${cmd_backend}" 1>&2
    return 1
fi
"""


def test_every_branch_is_read():
    sge = {
        "train_cmd": ("queue.pl", {"mem": "2G", "max_jobs_run": "20"}, ["-q long.q"]),
        "cuda_cmd": ("queue.pl", {}, ["-pe smp 4", "-V", "-l h_rt=1:0:0"]),
    }
    assert commands(BRANCHES) == {
        "local": {"train_cmd": ("run.pl", {}, [])},
        "stdout": {"train_cmd": ("stdout.pl", {}, [])},
        "sge": sge,
        "ge": sge,
    }
    read = parse_cmd_sh(BRANCHES)
    assert (read.chosen, str(read.chosen_at), read.findings) == ("sge", "cmd.sh:1", [])
    assert str(read.backends["sge"]["train_cmd"].place) == "cmd.sh:10"


def test_a_branch_in_one_line():
    text = 'if [ "$cmd_backend" = sge ]; then export train_cmd="queue.pl -q a.q"; fi\n'
    assert commands(text) == {"sge": {"train_cmd": ("queue.pl", {}, ["-q a.q"])}}


def test_commands_without_branches_and_variables():
    text = 'mem=4G\nexport decode_cmd="slurm.pl --mem ${mem} --time ${limit:-1:00:00}"\n'
    assert commands(text) == {
        "": {"decode_cmd": ("slurm.pl", {"mem": "4G", "time": "1:00:00"}, [])}
    }


def test_retry_is_taken_off():
    command = parse_cmd_sh('train_cmd="retry.pl --num-tries 4 queue.pl --mem 1G"').backends[""]
    assert (command["train_cmd"].program, command["train_cmd"].wrapped) == ("queue.pl", True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('train_cmd="queue.pl -q $(cat q)"', "runs a command"),
        ("train_cmd=`which run.pl`", "runs a command"),
        ('train_cmd="queue.pl -q ${site}"', "site is not set here"),
        ('train_cmd="queue.pl -q ${site%.*}"', "other than a variable"),
        ('train_cmd="queue.pl --mem', "quotes"),
        ('train_cmd="queue.pl --mem"', "--mem has no value"),
        ('train_cmd="queue.pl long.q"', "'long.q' stands where"),
        ('train_cmd="bsub.pl --mem 1G"', "bsub.pl is none of"),
        ('train_cmd=""', "it is empty"),
        ("train_cmd=run.pl extra", "more stands behind"),
        ("mkgraph_cmd=run.pl", "use only train_cmd"),
        ("module load slurm", "not run here"),
        ('[ -e x ] && train_cmd="run.pl"', "not run here"),
        ("if [ $(hostname) = a ]; then\ntrain_cmd=run.pl\nfi", "known only when it is run"),
        ('if [ "$cmd_backend" = ../x ]; then\ntrain_cmd=run.pl\nfi', "names no backend"),
        ("case $x in\na) ;;\nesac\nfor i in 1; do\ntrain_cmd=run.pl\ndone", "not followed"),
        ("set_it() {\ntrain_cmd=run.pl\n}", "not followed"),
        ("if [ a = b ]; then\necho", "is missing"),
    ],
)
def test_what_only_a_shell_could_tell_is_told_with_its_line(text, why):
    assert commands(text) == {}
    assert any(why in went_to and place.startswith("cmd.sh") for place, _, went_to in told(text))


def test_a_command_that_is_set_again():
    text = 'train_cmd="run.pl"\ntrain_cmd="queue.pl"\n'
    assert commands(text)[""]["train_cmd"][0] == "queue.pl"
    (finding,) = parse_cmd_sh(text).findings
    assert (finding.fate, str(finding.place)) == (Fate.NEEDLESS, "cmd.sh:1")
    assert "cmd.sh:2 sets train_cmd again" in finding.went_to
