"""What the options of ``qsub`` become, Grid Engine's and PBS's."""

from __future__ import annotations

from dataclasses import replace

from espnet3.migrate.amounts import memory
from espnet3.migrate.findings import Fate
from espnet3.migrate.flags import Flag
from espnet3.migrate.job import Job, whole
from espnet3.parallel.backends import walltime

_PLAIN = {
    "sge": {"-q": "queue", "-P": "project", "-N": "job_name"},
    "pbs": {"-q": "queue", "-A": "account", "-N": "job_name"},
}
_LOGS = "logs go to logs/ of the run"
_ALONE = "each worker is a job of its own"
_WAITS = "the driver waits for its workers"
_NEEDLESS = {
    "sge": {
        "-cwd": "workers start in the driver's directory",
        **dict.fromkeys(("-o", "-e", "-j"), _LOGS),
        "-t": _ALONE,
        "-sync": _WAITS,
        "-terse": "dask-jobqueue reads the number of the job",
    },
    "pbs": {**dict.fromkeys(("-o", "-e", "-j"), _LOGS), "-J": _ALONE, "-t": _ALONE},
}
_WALLTIME = {"sge": "h_rt", "pbs": "walltime"}
_CORES: dict[str, tuple[str, ...]] = {"sge": (), "pbs": ("ppn", "ncpus")}
_MEMORY = {
    "sge": ("h_vmem", "mem_free", "ram_free", "virtual_free", "s_vmem", "h_rss", "mem"),
    "pbs": ("mem", "vmem", "pmem", "pvmem"),
}
"""Resources that are amounts of memory, the one that counts most first."""


def translate(flags: list[Flag], job: Job) -> None:
    """Put every flag of a job where it belongs, or say why it belongs nowhere."""
    for flag in flags:
        if flag.name in _PLAIN[job.env] and flag.value:
            job.put(_PLAIN[job.env][flag.name], flag.value, flag)
        elif flag.name == "-l" and flag.value:
            _resources(flag, job)
        elif flag.name in _NEEDLESS[job.env]:
            job.tell(flag, Fate.NEEDLESS, _NEEDLESS[job.env][flag.name])
        elif flag.name == "-pe" and job.env == "sge":
            _parallel_environment(flag, job)
        elif flag.name == "-tc" and job.env == "sge":
            _throttle(flag, job)
        elif not flag.name:
            job.tell(flag, Fate.UNMAPPED, "it belongs to no option")
        else:
            job.add_directive(flag)
    _read_resources(job)


def _throttle(flag: Flag, job: Job) -> None:
    job.n_workers = whole(flag.value)
    if job.n_workers is None:
        job.tell(flag, Fate.UNMAPPED, "no number of jobs", "n_workers")
    else:
        job.tell(flag, Fate.MAPPED, f"n_workers: {job.n_workers}")


def _parallel_environment(flag: Flag, job: Job) -> None:
    name, _, slots = flag.value.partition(" ")
    cores = whole(slots)
    if cores is None:
        job.tell(flag, Fate.UNMAPPED, "no number of slots", "options.cores")
    elif flag.piece.setting.startswith("option num_nodes="):
        why = "a job is one worker, on one host"
        job.tell(flag, Fate.UNMAPPED, why, "more workers, n_workers, or more cores for each")
    else:
        job.options["cores"], job.origin["cores"] = cores, str(flag.piece.place)
        job.add_directive(flag, f"whether {name} is still the environment for cores of one host")


def _resources(flag: Flag, job: Job) -> None:
    """`-l a=1,b=2`, of which there may be several."""
    for item in filter(None, flag.value.split(",")):
        one = replace(flag, text=f"-l {item}")
        name, _, value = item.partition("=")
        if name == _WALLTIME[job.env]:
            job.put_walltime(replace(one, value=value), walltime.HMS, "as h:mm:ss")
        elif job.env == "pbs" and name in ("nodes", "select") and not _one_node(value):
            why = "a job is one worker, on one node"
            job.tell(one, Fate.UNMAPPED, why, "more workers, n_workers, or more cores for each")
        else:
            job.add_resource(one, item)


def _one_node(value: str) -> bool:
    """Whether `nodes=` or `select=` asks for one: a count of 1, or the name of a host."""
    return "+" not in value and whole(value.partition(":")[0]) in (None, 1)


def _read_resources(job: Job) -> None:
    """What the driver must know of what is asked for: memory, and with PBS cores."""
    spec = job.options.get("resource_spec", "")
    # Those of a PBS node follow its count, as in select=1:ncpus=4:mem=8gb.
    given = dict(r.partition("=")[::2] for r in spec.replace(":", ",").split(",") if r)
    for name in _CORES[job.env]:
        if cores := whole(given.get(name, "")):
            job.options["cores"], job.origin["cores"] = cores, job.origin["resource_spec"]
    for name in _MEMORY[job.env]:
        amount = memory(given.get(name, ""), job.env)
        if amount is not None:
            job.options["memory"] = amount
            job.origin["memory"] = job.origin["resource_spec"]
            return
