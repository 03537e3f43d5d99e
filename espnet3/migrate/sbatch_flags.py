"""What the options of ``sbatch`` become."""

from __future__ import annotations

from espnet3.migrate.amounts import memory
from espnet3.migrate.findings import Fate
from espnet3.migrate.flags import Flag
from espnet3.migrate.job import Job, whole
from espnet3.parallel.backends import walltime

_LONG = {
    "-A": "--account",
    "-a": "--array",
    "-c": "--cpus-per-task",
    "-D": "--chdir",
    "-e": "--error",
    "-J": "--job-name",
    "-n": "--ntasks",
    "-N": "--nodes",
    "-o": "--output",
    "-p": "--partition",
    "-t": "--time",
    "-W": "--wait",
}
_PLAIN = {"--partition": "queue", "--account": "account", "--job-name": "job_name"}
_NEEDLESS = {
    **dict.fromkeys(("--output", "--error", "--open-mode"), "logs go to logs/ of the run"),
    "--array": "each worker is a job of its own",
    "--wait": "the driver waits for its workers",
    "--parsable": "dask-jobqueue reads the number of the job",
}
_ONE = ("--ntasks", "--nodes", "--ntasks-per-node")


def translate(flags: list[Flag], job: Job) -> None:
    """Put every flag of a job where it belongs, or say why it belongs nowhere."""
    per_cpu: Flag | None = None
    for flag in flags:
        name = _LONG.get(flag.name, flag.name)
        if name in _PLAIN and flag.value:
            job.put(_PLAIN[name], flag.value, flag)
        elif name == "--time":
            job.put_walltime(flag, walltime.SLURM, "as Slurm writes it")
        elif name == "--cpus-per-task":
            _cores(flag, job)
        elif name == "--mem":
            _memory(flag, job, 1)
        elif name == "--mem-per-cpu":
            per_cpu = flag
        elif name in _ONE:
            _one_task(flag, job)
        elif name in _NEEDLESS:
            job.tell(flag, Fate.NEEDLESS, _NEEDLESS[name])
        elif name == "--chdir":
            job.tell(flag, Fate.UNMAPPED, "workers start in the driver's directory")
        elif name == "--mem-per-gpu":
            why = "options.memory is for a job, and Slurm takes one of --mem and --mem-per-gpu"
            job.tell(flag, Fate.UNMAPPED, why, "options.memory of a job with its GPUs")
        elif not name:
            job.tell(flag, Fate.UNMAPPED, "it belongs to no option")
        else:
            job.add_directive(flag)
    if per_cpu is not None:
        _memory(per_cpu, job, job.options.get("cores", 1))


def _cores(flag: Flag, job: Job) -> None:
    cores, before = whole(flag.value), job.options.get("cores")
    if cores is None:
        job.tell(flag, Fate.UNMAPPED, "no number of cores", "options.cores")
    elif before in (None, cores):
        job.put("cores", cores, flag)
    else:
        # The script appends options in no fixed order, so either may have counted.
        most = max(before, cores)
        job.options["cores"] = most
        why = f"options.cores: {most}, the larger of {before} and {cores}"
        job.tell(flag, Fate.MAPPED, why, "options.cores: slurm.pl lets either of the two win")


def _memory(flag: Flag, job: Job, times: int) -> None:
    amount = memory(flag.value, "slurm", times)
    if amount is None:
        why = "all memory of a node cannot be asked for" if flag.value == "0" else "no amount"
        job.tell(flag, Fate.UNMAPPED, why, "options.memory: what one job may use")
    else:
        job.put("memory", amount, flag)


def _one_task(flag: Flag, job: Job) -> None:
    if flag.value == "1":
        job.tell(flag, Fate.NEEDLESS, "a job is one worker, which is one task on one node")
    else:
        why = "a job is one worker, which is one task on one node"
        job.tell(flag, Fate.UNMAPPED, why, "more workers, n_workers, or more cores for each")
