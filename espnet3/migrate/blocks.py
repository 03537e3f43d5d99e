"""One command of ``cmd.sh`` and its conf file as a ``parallel:`` block."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from espnet3.errors import ConfigError
from espnet3.migrate import qsub_flags, sbatch_flags
from espnet3.migrate.amounts import memory
from espnet3.migrate.findings import Fate, Finding
from espnet3.migrate.flags import Flag, take_apart
from espnet3.migrate.job import NO_MEMORY, NO_WALLTIME, Job, whole
from espnet3.migrate.kaldi_command import Command
from espnet3.migrate.kaldi_conf import Line, Piece, submission
from espnet3.migrate.run.options import Option
from espnet3.migrate.shell_text import NotUnderstood
from espnet3.parallel.config import parse_parallel

_TRANSLATE = {
    "slurm": sbatch_flags.translate,
    "sge": qsub_flags.translate,
    "pbs": qsub_flags.translate,
}


@dataclass
class Block:
    """A ``parallel:`` block, and how it came about.

    Attributes:
        parallel: The block.
        origin: Per key of it, or of its options, where that comes from.
        placeholders: Per key, what a person must decide; keys that are not in the block are those
            that have a default.
        used: Lines of the conf file that took part.
        findings: What became of each setting.
    """

    parallel: dict[str, Any]
    origin: dict[str, str] = field(default_factory=dict)
    placeholders: dict[str, str] = field(default_factory=dict)
    used: list[Line] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def asks(self) -> dict[str, Any]:
        """The block without what a person must decide anyway: how many workers."""
        left_out = "n_workers" if "n_workers" in self.placeholders else ""
        return {key: value for key, value in self.parallel.items() if key != left_out}


def make_block(
    command: Command,
    conf: list[Line],
    gpu: Mapping[str, str],
    hosts: list[str] | None,
    pieces: Option | None,
) -> Block:
    """The block for what a command would have submitted.

    Args:
        command: the command.
        conf: its conf file; empty for `run.pl` and `ssh.pl`, which have none.
        gpu: what the task script writes behind the command: ``{"gpu": "1"}``, or nothing.
        hosts: those of `ssh.pl`.
        pieces: how many jobs the run script has it start, if it says so.
    """
    if command.env in _TRANSLATE:
        block = _batch(command, conf, gpu)
    else:
        block = _without_scheduler(command, gpu, hosts)
    if command.wrapped:
        why = "a worker that is lost is replaced, and its items are done again"
        block.findings.append(Finding("retry.pl", command.place, Fate.NEEDLESS, why))
    if "n_workers" not in block.parallel:
        _how_many(command, gpu, pieces, block)
    return block


def problems_of(parallel: Mapping[str, Any], file: str) -> str:
    """What the check that every run begins with says against a block; "" if nothing."""
    try:
        parse_parallel(parallel, source=file)
    except ConfigError as error:
        return str(error)
    return ""


def _how_many(
    command: Command, gpu: Mapping[str, str], pieces: Option | None, block: Block
) -> None:
    """As many workers as there were jobs; on one machine it is not known how many it can hold."""
    nj = f"{pieces.name}, {pieces.value} ({pieces.place})" if pieces else "nj (run.sh)"
    number = int(pieces.value or 0) if pieces else None
    if command.env == "local":
        what = "GPUs" if gpu.get("gpu", "0") != "0" else "cores"
        why = f"how many workers, each with its own model; {command.program} ran as many jobs at "
        why += f"once as there are {what}, up to {nj}"
        number = 1
    elif command.env == "ssh":
        why = f"how many workers; ssh.pl used up to {nj}"
    else:
        why = f"how many workers, each a job; ESPnet2 submitted {nj}, at once"
    block.placeholders["n_workers"] = why
    if number is not None:
        rest = dict(block.parallel)
        block.parallel = {"env": rest.pop("env"), "n_workers": number, **rest}


def _without_scheduler(command: Command, gpu: Mapping[str, str], hosts: list[str] | None) -> Block:
    """`run.pl` looks at --max-jobs-run and --gpu, `ssh.pl` at nothing."""
    options = {**command.options, **gpu}
    has_gpu = options.get("gpu", "0") != "0"
    block = Block({"env": command.env})
    if command.env == "local" and has_gpu:
        block.parallel["env"] = "local_gpu"
    if command.env == "ssh":
        block.parallel["options"] = {"hosts": hosts or []}
    if most := _most_jobs(command):
        block.parallel["n_workers"], block.origin["n_workers"] = most, str(command.place)
    for name, value in command.options.items():
        setting = f"{command.program} --{name} {value}"
        if name == "max_jobs_run" and command.env == "local":
            went = (Fate.MAPPED, f"n_workers: {most}") if most else (Fate.UNMAPPED, "no number")
        elif name == "gpu" and has_gpu and command.env == "local":
            went = (Fate.MAPPED, "env: local_gpu, one worker per GPU")
        else:
            went = (Fate.NEEDLESS, f"{command.program} does nothing with it")
        block.findings.append(Finding(setting, command.place, *went))
    for text in command.native:
        if text.startswith("-tc ") and most:
            went = (Fate.MAPPED, f"n_workers: {most}")
        else:
            went = (Fate.NEEDLESS, f"{command.program} does nothing with it")
        block.findings.append(Finding(f"{command.program} {text}", command.place, *went))
    if gpu.get("gpu", "0") != "0" and command.env == "ssh":
        block.placeholders["options.job_script_prologue"] = (
            "which GPU each worker of a host takes, such as a line that sets CUDA_VISIBLE_DEVICES"
        )
    return block


def _most_jobs(command: Command) -> int | None:
    if command.env == "ssh":
        return None
    native = next((text[4:] for text in command.native if text.startswith("-tc ")), "")
    return whole(command.options.get("max_jobs_run", native))


def _batch(command: Command, conf: list[Line], gpu: Mapping[str, str]) -> Block:
    job = Job(command.env)
    options = {k: v for k, v in command.options.items() if k != "config"}
    most = options.pop("max_jobs_run", None) if command.env == "slurm" else None
    # What the command says itself comes last: of two that differ it is the one that is meant.
    done = submission(conf, {**gpu, **options, **gpu})
    command_piece = done.pieces[:1] if conf and done.used else []
    native = [Piece(text, command.place, text) for text in command.native]
    # As the scripts write it: the command, the scheduler's own options, those from the conf.
    pieces = [*command_piece, *native, *done.pieces[len(command_piece) :]]
    _TRANSLATE[command.env](_flags(pieces, job), job)
    if most is not None:
        _max_jobs(most, command, job)
    _asked(done.used, command, job)
    _refused(done.refused, command, job)
    if "memory" not in job.options and memory(options.get("mem", ""), "slurm"):
        # In whatever words the site asks for it.
        job.options["memory"] = memory(options["mem"], "slurm" if job.env == "slurm" else "pbs")
        job.origin["memory"] = str(command.place)
    return _with_placeholders(job, done.used)


def _flags(pieces: list[Piece], job: Job) -> list[Flag]:
    flags: list[Flag] = []
    for piece in pieces:
        text = piece.text
        if piece.setting.startswith("command "):
            program, _, text = text.partition(" ")
            if program not in ("qsub", "sbatch"):
                why = f"jobs are submitted by {'sbatch' if job.env == 'slurm' else 'qsub'}"
                ask = "what this command adds, and whether it is needed"
                finding = Finding(piece.setting, piece.place, Fate.UNMAPPED, why, ask)
                job.findings.append(finding)
        elif not text:
            why = "it asks for nothing"
            job.findings.append(Finding(piece.setting, piece.place, Fate.NEEDLESS, why))
        try:
            flags += take_apart(Piece(text, piece.place, piece.setting))
        except NotUnderstood as error:
            job.findings.append(
                Finding(piece.setting, piece.place, Fate.UNMAPPED, str(error), "what it stands for")
            )
    return flags


def _max_jobs(most: str, command: Command, job: Job) -> None:
    job.n_workers = whole(most)
    fate, went_to = Fate.MAPPED, f"n_workers: {job.n_workers}"
    if job.n_workers is None:
        fate, went_to = Fate.UNMAPPED, "no number of jobs"
    job.findings.append(Finding(f"--max_jobs_run {most}", command.place, fate, went_to))
    job.origin["n_workers"] = str(command.place)


def _asked(used: list[Line], command: Command, job: Job) -> None:
    """The command's own options, and defaults where it has none."""
    for line in used:
        if line.kind == "option" and line.name in command.options:
            setting = f"--{line.name} {command.options[line.name]}"
            went = f"as `{line}` ({line.place}) says"
            job.findings.append(Finding(setting, command.place, Fate.MAPPED, went))
        elif line.kind == "default":
            why = "it is in the files, as far as it asks for anything"
            job.findings.append(Finding(str(line), line.place, Fate.MAPPED, why))


def _refused(refused: Mapping[str, str], command: Command, job: Job) -> None:
    for name, value in refused.items():
        why = f"no line of its conf describes it, so {command.program} would have refused the job"
        ask = "whether it is wanted, and which option it is here"
        job.findings.append(
            Finding(f"--{name} {value}", command.place, Fate.UNMAPPED, why, ask),
        )
        if name == "max_jobs_run" and (most := whole(value)):
            # What was meant is plain.
            job.n_workers = most
            job.findings[-1] = Finding(
                f"--{name} {value}", command.place, Fate.MAPPED, f"n_workers: {most}; {why}"
            )


def _with_placeholders(job: Job, used: list[Line]) -> Block:
    placeholders: dict[str, str] = {}
    if "memory" not in job.options:
        job.options["memory"] = NO_MEMORY
        placeholders["options.memory"] = (
            "what one job may use; the recipe asked for none, and here it must be said"
        )
    elif job.env == "sge" and job.options.get("cores", 1) > 1:
        placeholders["options.memory"] = (
            "what one job may use; many sites multiply what is asked for by the slots of -pe"
        )
    if "walltime" not in job.options and not _limit_is_known(job):
        job.options["walltime"] = NO_WALLTIME
        placeholders["options.walltime"] = (
            "how long a job may run; the recipe left it to the queue, which cannot be asked here"
        )
    parallel: dict[str, Any] = {"env": job.env}
    if job.n_workers is not None:
        parallel["n_workers"] = job.n_workers
    parallel["options"] = {key: job.options[key] for key in sorted(job.options, key=_order)}
    return Block(parallel, job.origin, placeholders, used, job.findings)


def _limit_is_known(job: Job) -> bool:
    """Whether the driver can ask for the limit of the queue: Grid Engine must know which."""
    one_queue = re.fullmatch(r"[^*?\[,@]+", job.options.get("queue", ""))
    return job.env == "slurm" or (job.env == "sge" and one_queue is not None)


_ORDER = ("queue", "account", "project", "cores", "memory", "walltime", "resource_spec")


def _order(key: str) -> tuple[int, str]:
    return (_ORDER.index(key) if key in _ORDER else len(_ORDER), key)
