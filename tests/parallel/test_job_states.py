"""What schedulers print about jobs, as their manuals and sources have it, and what is made of it.

The commands are on the PATH and print that; SGE's, OAR's and Slurm's are as real ones printed it.
"""

import os
import shlex

import pytest

from espnet3.parallel.backends import job_states, queues
from espnet3.parallel.backends.job_states import JobState
from espnet3.parallel.backends.jobqueue import ask_jobs


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Put a command on the PATH that prints something, and keeps how it was called."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")

    def make(name, out="", error="", status=0):
        script = f'echo "$@" > {place / name}.called\n'
        script += f"printf %s {shlex.quote(out)}\nprintf %s {shlex.quote(error)} >&2\n"
        (place / name).write_text(f"#!/bin/sh\n{script}exit {status}\n")
        (place / name).chmod(0o755)
        return lambda: (place / f"{name}.called").read_text().strip()

    return make


def test_slurm(command):
    listed = "7|PENDING|Resources\n8|RUNNING|None\n10|OUT_OF_MEMORY|OutOfMemory\n11|FAILED|None\n"
    command("squeue", listed)
    jobs = job_states.slurm_jobs(["7", "8", "9", "10", "11"])
    assert jobs == {
        "7": JobState(True, "pending", "Resources"),
        "8": JobState(False, "running"),
        "10": JobState(False, "out_of_memory", "OutOfMemory", True, out_of_memory=True),
        "11": JobState(False, "failed", over=True),
    }
    assert str(jobs["7"]) == "pending (Resources)"
    command("squeue", error="slurm_load_jobs error: Invalid job id specified\n", status=1)
    assert job_states.slurm_jobs(["7"]) == {}


QSTAT = """\
job-ID  prior   name       user         state submit/start at     queue                 slots
---------------------------------------------------------------------------------------------
     12 0.50000 espnet3    me           r     01/01/2026 00:00:00 all.q@node1               1
     13 0.00000 espnet3    me           Eqw   01/01/2026 00:00:00                           1
     14 0.00000 other      me           qw    01/01/2026 00:00:00                           1
"""
QACCT = """\
==============================================================
qname        cpu.q               
jobnumber    89                  
slots        {slots}                   
failed       37  : qmaster enforced h_rt, h_cpu, or h_vmem limit
exit_status  137                  (Killed)
maxvmem      {taken}
category     -q cpu.q -l h_rt=600,h_vmem=400M
"""  # noqa: W291


def test_sge(command):
    command("qstat", QSTAT)
    command("qacct", error="error: job id 15 not found\n", status=1)
    jobs = job_states.SgeJobs()(["12", "13", "15"])
    assert jobs["12"] == JobState(False, "r")
    assert jobs["13"].pending
    assert "qstat -j" in str(jobs["13"])
    assert jobs["15"] == JobState(False, "ended")  # the accounting is to say how
    assert "14" not in jobs


@pytest.mark.parametrize(
    ("slots", "taken", "oom"), [(1, "644.055MB", True), (1, "1.781MB", False), (4, "1.1GB", False)]
)
def test_sge_says_later_how_a_job_has_ended(command, slots, taken, oom):
    command("qstat", QSTAT)
    command("qacct", QACCT.format(slots=slots, taken=taken))
    why = "qmaster enforced h_rt, h_cpu, or h_vmem limit"
    end = JobState(False, "ended", why, over=True, out_of_memory=oom)
    assert job_states.SgeJobs()(["89"]) == {"89": end}


def test_sge_is_not_waited_for_when_it_has_no_accounting(command, monkeypatch):
    command("qstat", QSTAT)
    command(
        "qacct", error="/var/lib/gridengine/default/common/accounting: No such file\n", status=1
    )
    assert job_states.SgeJobs()(["89"]) == {}
    command("qacct", error="error: job id 89 not found\n", status=1)
    ask = job_states.SgeJobs()
    assert ask(["89"]) == {"89": JobState(False, "ended")}
    monkeypatch.setattr(job_states, "SGE_LATE", 0.0)
    assert ask(["89"]) == {}


def test_oar(command):
    listed = """\
Job id    S User     Duration   System message
--------- - -------- ---------- ------------------------------------------------
4711      R me          0:00:07 R=1,W=0:1:0,J=B (Karma=0.000,quota_ok)
4712      W me          0:00:00 R=4,W=0:2:0,J=B
4713      H me          0:00:00
4714      E me          0:00:07 R=1,W=0:1:0,J=B
4715      W me          0:00:00 R=1,W=0:1:0,J=B,N=other
"""
    command("oarstat", listed)
    jobs = job_states.oar_jobs(["4711", "4712", "4713", "4714"])
    assert {job: (state.pending, str(state)) for job, state in jobs.items()} == {
        "4711": (False, "running (R=1,W=0:1:0,J=B (Karma=0.000,quota_ok))"),
        "4712": (True, "waiting (R=4,W=0:2:0,J=B)"),
        "4713": (True, "on hold"),
    }


PBS = """\
Job Id: 41.vbox
    Job_Name = espnet3
    Job_Owner = me@vbox
    job_state = Q
    queue = workq
    server = vbox
    Resource_List.ncpus = 4
    Variable_List = PBS_O_HOME=/home/me,PBS_O_LANG=en_US.UTF-8,
\tjob_state = X
    comment = Not Running: Insufficient amount of resource: ncpus (R: 4 A: 2 T:
\t 2)
    etime = Fri Nov 11 17:57:05 2016

Job Id: 42.vbox
    Job_Name = espnet3
    job_state = R
    comment = Job run at Fri Nov 11 at 17:57 on (vbox:ncpus=4)

"""
TORQUE = """\
Job Id: 43.moab
    Job_Name = STDIN
    Job_Owner = fred@moab
    job_state = C
    queue = batch
    exit_status = 271
    Variable_List = PBS_O_QUEUE=batch,PBS_O_HOME=/home/fred,
\tPBS_O_WORKDIR=/home/fred
    euser = fred
"""


def test_pbs_and_torque(command):
    gone = (
        "qstat: Unknown Job Id 40.vbox\n"
        "qstat: 44.vbox Job has finished, use -x or -H to obtain historical job information\n"
    )
    called = command("qstat", PBS + TORQUE, gone, status=153)
    assert job_states.pbs_jobs(["40", "41", "42", "43", "44"]) == {
        "41": JobState(
            True, "queued", "Not Running: Insufficient amount of resource: ncpus (R: 4 A: 2 T: 2)"
        ),
        "42": JobState(False, "running"),
        "43": JobState(False, "completed", over=True),
    }
    assert called() == "-f 40 41 42 43 44"
    command("qstat", error="qstat: Unknown Job Id Error 40.moab\n", status=153)  # Torque
    assert job_states.pbs_jobs(["40"]) == {}
    away = "qstat: Unknown Job Id 40.vbox\nqstat: cannot connect to server vbox (errno=111)\n"
    command("qstat", error=away, status=1)
    assert job_states.pbs_jobs(["40", "41"]) is None


def lsf_record(job_id, stat, pending="", end=""):
    record = f'"JOBID":"{job_id}",\n      "STAT":"{stat}",\n      "PEND_REASON":"{pending}",'
    return f'    {{\n      {record}\n      "EXIT_REASON":"{end}"\n    }}'


def test_lsf(command):
    records = [
        lsf_record(7, "PEND", "New job is waiting for scheduling;"),
        lsf_record(8, "RUN"),
        lsf_record(
            9, "EXIT", end="TERM_MEMLIMIT: job killed after reaching LSF memory usage limit"
        ),
        lsf_record(10, "EXIT", end="TERM_OWNER: job killed by owner"),
        '    {\n      "JOBID":"11",\n      "ERROR":"Job <11> is not found"\n    }',
    ]
    inside = ",\n".join(records)
    out = f'{{\n  "COMMAND":"bjobs",\n  "JOBS":5,\n  "RECORDS":[\n{inside}\n  ]\n}}\n'
    called = command("bjobs", out)
    memory = "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit"
    assert job_states.lsf_jobs(["7", "8", "9", "10", "11"]) == {
        "7": JobState(True, "pend", "New job is waiting for scheduling"),
        "8": JobState(False, "run"),
        "9": JobState(False, "exit", memory, over=True, out_of_memory=True),
        "10": JobState(False, "exit", "TERM_OWNER: job killed by owner", over=True),
    }
    assert called() == "-a -o jobid stat pend_reason exit_reason -json 7 8 9 10 11"
    command("bjobs", error="Job <11> is not found\n", status=255)
    assert job_states.lsf_jobs(["11"]) == {}
    command("bjobs", "JOBID USER STAT\n7 me PEND\n")  # a version without JSON
    assert job_states.lsf_jobs(["7"]) is None


CONDOR = """\
[
{
  "ClusterId": 12,
  "JobStatus": 1,
  "LastRejMatchReason": "no match found ",
  "ProcId": 0
}
,
{
  "ClusterId": 13,
  "JobStatus": 2,
  "ProcId": 0
}
,
{
  "ClusterId": 14,
  "HoldReason": "Error from slot1_1@node1: Job has gone over cgroup memory limit of 10624 \
megabytes. Last measured usage: 404 megabytes.  Consider resubmitting with a higher \
request_memory.",
  "HoldReasonCode": 34,
  "HoldReasonSubCode": 102,
  "JobStatus": 5,
  "ProcId": 0
}
,
{
  "ClusterId": 15,
  "HoldReason": "via condor_hold (by user me)",
  "HoldReasonCode": 1,
  "HoldReasonSubCode": 0,
  "JobStatus": 5,
  "ProcId": 0
}
]
"""


def test_htcondor(command):
    called = command("condor_q", CONDOR)
    jobs = job_states.htcondor_jobs(["12.0", "13.0", "14.0", "15.0", "16.0"])
    assert jobs.pop("14.0").out_of_memory
    assert jobs == {
        "12.0": JobState(True, "idle", "no match found"),
        "13.0": JobState(False, "running"),
        "15.0": JobState(True, "held", "via condor_hold (by user me)"),
    }
    assert called().startswith("12.0 13.0 14.0 15.0 16.0 -json -attributes ClusterId,ProcId,")
    command("condor_q")  # it prints nothing when no job is left
    assert job_states.htcondor_jobs(["12.0"]) == {}
    command("condor_q", error="-- Failed to fetch ads from: <10.0.0.1:9618>\n", status=1)
    assert job_states.htcondor_jobs(["12.0"]) is None


MOAB = """\
<Data>
 <Object>queue</Object>
 <cluster LocalActiveNodes="68" LocalAllocProcs="1360" time="1553503935"/>
 <queue count="1" option="active">
  <job DRMJID="5096381.mg1.nemo.privat" GJID="Moab.12" JobID="5096381" JobName="startVM.py" \
State="Running" User="ka_qb1555"/>
 </queue>
 <queue count="1" option="eligible">
  <job GJID="4761849" JobID="4761849" JobName="startVM.py" StartTime="0" State="Idle"/>
 </queue>
 <queue count="1" option="blocked">
  <job GJID="4761850" JobID="4761850" StartTime="0" State="BatchHold"/>
 </queue>
</Data>
"""


def test_moab(command):
    command("showq", MOAB)
    assert job_states.moab_jobs(["12", "4761849", "4761850", "4761851"]) == {
        "12": JobState(False, "running"),
        "4761849": JobState(True, "idle"),
        "4761850": JobState(True, "batchhold", "blocked"),
    }
    command("showq", "ERROR:  client timed out after 30 seconds (hostname:port=mg1:42559)\n")
    assert job_states.moab_jobs(["12"]) is None


@pytest.mark.parametrize(
    ("env", "options"),
    [("htcondor", {"submit_command_extra": ["-name", "other"]}), ("pbs", {"queue": "q@other"})],
)
def test_a_scheduler_that_has_not_got_the_jobs_is_not_asked(env, options):
    assert ask_jobs(env, {}) is not None
    assert ask_jobs(env, options) is None


def test_nobody_can_say_without_the_commands(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    asks = [job_states.slurm_jobs, job_states.SgeJobs(), job_states.oar_jobs, job_states.pbs_jobs]
    asks += [job_states.lsf_jobs, job_states.htcondor_jobs, job_states.moab_jobs]
    assert [ask(["7"]) for ask in asks] == [None] * 7
    assert queues.slurm_queues() is None
