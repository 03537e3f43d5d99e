"""One table of what differs between batch schedulers."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from espnet3.parallel.backends import job_states, node_sizes, queues, walltime


@dataclass(frozen=True)
class Scheduler:
    """A batch scheduler.

    Attributes:
        cluster: name of its class in dask_jobqueue.
        example: a walltime as it is written here; "" if there is none.
        units: how a walltime is read.
        defaults: options that only this scheduler has, or has otherwise.
        directives: come before the user's `job_extra_directives`. `{logs}` is the log directory.
        names: asks for the names of all queues.
        limit: asks for the longest walltime of a queue.
        jobs: asks for the states of jobs.
        out_of_memory: what stands in the log of a job that was ended for its memory, where its
            state does not tell.
        misfit: says why no node of its queue can ever run a job script; None if one may.
    """

    cluster: str
    example: str = "04:00:00"
    units: walltime.Units = field(default_factory=lambda: walltime.HMS)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    directives: Sequence[str] = ()
    names: Callable[[], list[str] | None] | None = None
    limit: Callable[[str | None], str | None] | None = None
    jobs: job_states.AskJobs | None = None
    out_of_memory: re.Pattern[str] | None = None
    misfit: Callable[[str], str | None] | None = None


_PBS_MEMORY = re.compile(
    # By its daemon, of Torque and PBS; by the kernel, where PBS shows what that said, if it killed.
    r"^=>> PBS: job killed: p?v?mem\b|^Cgroup mem(sw)? limit exceeded: .*(kill|Task in)",
    re.MULTILINE,
)

SCHEDULERS: dict[str, Scheduler] = {
    "slurm": Scheduler(
        "SLURMCluster",
        units=walltime.SLURM,
        # A requeue would truncate the log.
        directives=("--open-mode=append",),
        names=queues.slurm_queues,
        limit=queues.slurm_limit,
        jobs=job_states.slurm_jobs,
        # It calls the job FAILED where it watches memory itself (`OverMemoryKill`).
        out_of_memory=re.compile(r"^slurmstepd\S*: error: .*exceeded memory limit", re.MULTILINE),
        misfit=node_sizes.slurm_misfit,
    ),
    "pbs": Scheduler("PBSCluster", jobs=job_states.pbs_jobs, out_of_memory=_PBS_MEMORY),
    "sge": Scheduler(
        "SGECluster",
        # A signal before SIGKILL.
        directives=("-notify",),
        names=queues.sge_queues,
        limit=queues.sge_limit,
        jobs=job_states.SgeJobs(),
    ),
    "lsf": Scheduler(
        "LSFCluster",
        example="4:00",
        units=walltime.LSF,
        jobs=job_states.lsf_jobs,
        out_of_memory=re.compile(r"^TERM_MEMLIMIT: ", re.MULTILINE),
    ),
    "htcondor": Scheduler(
        "HTCondorCluster",
        example="",
        defaults={"disk": "1GB"},
        jobs=job_states.htcondor_jobs,
    ),
    "moab": Scheduler(
        "MoabCluster",
        units=walltime.MOAB,
        jobs=job_states.moab_jobs,
        out_of_memory=_PBS_MEMORY,  # of Torque below it
    ),
    "oar": Scheduler(
        "OARCluster",
        example="4:00:00",
        units=walltime.OAR,
        defaults={"memory_per_core_property_name": "not_applicable"},
        # Dask's class ignores log_directory.
        directives=("-O {logs}/espnet3-%jobid%.out", "-E {logs}/espnet3-%jobid%.err"),
        jobs=job_states.oar_jobs,
    ),
}
