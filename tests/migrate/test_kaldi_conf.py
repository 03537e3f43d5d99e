"""The option language of conf files: what each line adds to the command that submits."""

import pytest

from espnet3.migrate.kaldi_conf import BUILT_IN, parse_conf, submission

CONF = """\
# what submits
command qsub -x
command qsub -V   # this one
option mem=* -l mem_free=$0,ram_free=$0
option mem=0          # nothing

option num_threads=* -pe smp $0
option num_threads=1
default gpu=0
option gpu=0 -q cpu.q
option gpu=* -l gpu=$0 -q g.q
"""


def submitted(text, **options):
    lines, findings = parse_conf(text, "conf/queue.conf")
    done = submission(lines, options)
    return [piece.text for piece in done.pieces], done.refused, findings


@pytest.mark.parametrize(
    ("options", "pieces"),
    [
        ({}, ["-q cpu.q"]),
        ({"mem": "2G"}, ["-l mem_free=2G,ram_free=2G", "-q cpu.q"]),
        ({"mem": "0"}, ["", "-q cpu.q"]),
        ({"num_threads": "1"}, ["", "-q cpu.q"]),
        ({"num_threads": "4", "gpu": "2"}, ["-pe smp 4", "-l gpu=2 -q g.q"]),
    ],
)
def test_options_become_what_the_lines_say(options, pieces):
    assert submitted(CONF, **options) == (["qsub -V", *pieces], {}, [])


def test_each_piece_knows_its_line():
    lines, _ = parse_conf(CONF, "conf/queue.conf")
    places = [str(piece.place) for piece in submission(lines, {"mem": "1G"}).pieces]
    assert places == ["conf/queue.conf:3", "conf/queue.conf:4", "conf/queue.conf:10"]


def test_an_option_that_no_line_describes_is_refused():
    assert submitted(CONF, time="1:00:00")[1] == {"time": "1:00:00"}


def test_a_default_holds_for_the_lines_behind_it_alone():
    late = "command qsub\noption gpu=0 -q cpu.q\ndefault gpu=0\n"
    assert submitted(late)[:2] == (["qsub"], {"gpu": "0"})


def test_a_value_without_text_may_stand_for_any_other():
    assert submitted("command sbatch\noption fast=*\n", fast="9")[0] == ["sbatch", ""]


def test_lines_of_no_kind_and_a_missing_command_are_told():
    _, findings = parse_conf("option mem\n\noptions=$(hostname)\n", "conf/x.conf")
    assert [str(finding.place) for finding in findings] == [
        "conf/x.conf:1", "conf/x.conf:3", "conf/x.conf",
    ]  # fmt: skip


@pytest.mark.parametrize("env", BUILT_IN)
def test_what_the_scripts_do_without_a_file_is_in_their_language(env):
    assert parse_conf(BUILT_IN[env], env)[1] == []
