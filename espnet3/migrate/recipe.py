"""A recipe's cluster set-up as a whole: which files there are, and which are written instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from espnet3.errors import ConfigError
from espnet3.migrate.block_files import yaml_text
from espnet3.migrate.blocks import Block, make_block, problems_of
from espnet3.migrate.cmd_sh import CmdSh, parse_cmd_sh
from espnet3.migrate.data.preparation import Preparation, read_preparation
from espnet3.migrate.findings import Fate, Finding, Place, merged, problem
from espnet3.migrate.kaldi_command import Command
from espnet3.migrate.kaldi_conf import BUILT_IN, FILES, Line, parse_conf
from espnet3.migrate.run.call import Runs
from espnet3.migrate.run.migration import migrate_runs, pieces_of, run_scripts
from espnet3.migrate.run.options import Option
from espnet3.migrate.run.workers import Blocks
from espnet3.migrate.text_files import read_text

ROLES: dict[str, tuple[str, Mapping[str, str], str]] = {
    "decode_cmd": ("", {"gpu": "0"}, "infer without GPUs"),
    "cuda_cmd": ("_gpu", {"gpu": "1"}, "infer with gpu_inference=true, and training"),
    "train_cmd": ("_data", {}, "data preparation and statistics"),
}
"""Per command: the ending of its file's name, what task scripts add to it, what it was for."""

_UNUSED = {
    "mem": "options.memory",
    "num_threads": "options.cores",
    "time": "options.walltime",
    "max_jobs_run": "n_workers",
    "gpu": "the file for GPUs",
    "name": "options.job_name",
}
"""Where an option of a conf file would go if a command had it."""

MACHINES = ".queue/machines"


@dataclass
class Migration:
    """What became of a recipe.

    Attributes:
        recipe: Its directory.
        files: Names of files to write, relative to the directory for them, and their texts.
        about: Per file, the backend and command that it replaces.
        chosen: The value of ``cmd_backend``; "" if there is none.
        decisions: Per file, key and what a person must decide.
        findings: What became of each setting.
        preparation: What became of `local/data.sh`; None if there is none.
        runs: What became of `run.sh` and its like.
    """

    recipe: Path
    files: dict[str, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    chosen: str = ""
    decisions: dict[str, dict[str, str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    preparation: Preparation | None = None
    runs: Runs = field(default_factory=Runs)

    @property
    def unmapped(self) -> list[Finding]:
        """Settings that were not carried over, unreadable ones included."""
        return [f for f in self.findings if f.fate in (Fate.UNMAPPED, Fate.PROBLEM)]


def migrate(recipe: Path) -> Migration:
    """Read a recipe's cluster set-up, run scripts, decode configs and data preparation.

    Args:
        recipe: the directory of an ESPnet2 recipe, such as ``egs2/an4/asr1``.

    Raises:
        ConfigError: if it is no directory, or has neither a ``cmd.sh`` nor a run script.
    """
    if not recipe.is_dir():
        raise ConfigError(f"{recipe}: there is no such directory")
    done = Migration(recipe)
    text, done.findings = read_text(recipe, "cmd.sh")
    if text is not None:
        _Migrator(done, pieces_of(recipe)).all_backends(parse_cmd_sh(text))
    else:
        why = done.findings[0].went_to if done.findings else "there is none"
        if not run_scripts(recipe):
            hint = "name the directory of an ESPnet2 recipe, such as egs2/an4/asr1"
            raise ConfigError(f"{recipe / 'cmd.sh'}: {why}; {hint}")
        if not done.findings:
            done.findings.append(Finding("cmd.sh", Place("cmd.sh"), Fate.UNMAPPED, why))
    limited = frozenset(f for f, marked in done.decisions.items() if "n_workers" not in marked)
    blocks = Blocks(dict(done.files), dict(done.about), done.chosen, limited)
    done.runs = migrate_runs(recipe, blocks)
    done.files |= done.runs.files
    done.about |= done.runs.about
    done.findings += done.runs.findings
    if (preparation := read_preparation(recipe, done.runs.data_sets)) is not None:
        done.preparation = preparation
        done.files |= preparation.files
        done.findings += preparation.findings
    done.findings = merged(done.findings)
    return done


class _Migrator:
    def __init__(self, done: Migration, pieces: Mapping[str, Option]) -> None:
        self.done = done
        self.pieces = pieces
        self.confs: dict[str, list[Line]] = {}
        self.used: set[Line] = set()
        self.hosts: list[str] | None = None
        self.backends: list[str] = []

    def all_backends(self, cmd: CmdSh) -> None:
        self.done.findings += cmd.findings
        self.done.chosen = cmd.chosen
        self.backends = list(cmd.backends)
        if not cmd.backends:
            why = "it sets none of train_cmd, cuda_cmd and decode_cmd"
            self.done.findings.append(problem(Place("cmd.sh"), "cmd.sh", why))
        for backend, commands in cmd.backends.items():
            self._backend(backend, commands)
        if cmd.chosen:
            self.done.findings.append(self._choice(cmd))
        self._unused()

    def _choice(self, cmd: CmdSh) -> Finding:
        setting, place = f"cmd_backend={cmd.chosen}", cmd.chosen_at
        if cmd.chosen not in cmd.backends:
            ask = "which of the written files is yours"
            return Finding(setting, place, Fate.UNMAPPED, "cmd.sh has no such branch", ask)
        files = [f for f in self.done.files if f.startswith(f"conf/parallel_{cmd.chosen}")]
        if not files and cmd.chosen == "stdout":
            files = ["conf/parallel_local.yaml"]
        went = f"the file that is laid over a config: {files[0]}" if files else "no file, see there"
        return Finding(setting, place, Fate.MAPPED, went)

    def _backend(self, backend: str, commands: Mapping[str, Command]) -> None:
        written: dict[str, Block] = {}
        for name, (ending, gpu, purpose) in ROLES.items():
            command = commands.get(name)
            if command is None or (command.env == "ssh" and not self._machines(command)):
                continue
            if command.program == "stdout.pl" and "local" in self.backends:
                why = "as run.pl; logs are in logs/ of the run, and progress is on the terminal"
                self._tell(Finding(f"{name}=stdout.pl", command.place, Fate.NEEDLESS, why))
                continue
            block = self._block(command, gpu, self.pieces.get(name))
            file = f"conf/parallel_{backend or command.env}{ending}.yaml"
            same = next((f for f, b in written.items() if b.asks() == block.asks()), None)
            about = f"{name} ({command.place}): {purpose}"
            where = same or file
            if same is None and not self._write(file, block, about):
                where = ""
            else:
                written[where] = block
            self._tell_about(name, command, gpu, block, where)

    def _write(self, file: str, block: Block, about: str) -> bool:
        if problems := problems_of(block.parallel, file):
            self._tell(problem(Place(file), file, f"not written: {problems}"))
            return False
        self.done.files[file] = yaml_text(block, f"Instead of {about}")
        self.done.about[file] = about
        self.done.decisions[file] = block.placeholders
        return True

    def _tell_about(
        self, name: str, command: Command, gpu: Mapping[str, str], block: Block, file: str
    ) -> None:
        where = (file,) if file else ()
        self.used.update(block.used)
        if file:
            went = f"env: {block.parallel['env']}"
            self._tell(
                Finding(f"{name}={command.program}", command.place, Fate.MAPPED, went, "", where)
            )
        if "gpu" in gpu and command.options.get("gpu", gpu["gpu"]) != gpu["gpu"]:
            why = f"task scripts add --gpu {gpu['gpu']} behind {name}, which counts"
            setting = f"{name}: --gpu {command.options['gpu']}"
            self._tell(Finding(setting, command.place, Fate.UNMAPPED, why, "GPUs of a job", where))
        if command.program == "queue-freegpu.pl":
            why = "as queue.pl; it also looked for a free GPU of the host, which nothing does here"
            ask = "how your site tells a job which GPU is its own"
            setting = f"{name}=queue-freegpu.pl"
            self._tell(Finding(setting, command.place, Fate.UNMAPPED, why, ask, where))
        for finding in block.findings:
            self._tell(replace(finding, files=where))

    def _tell(self, finding: Finding) -> None:
        self.done.findings.append(finding)

    def _block(self, command: Command, gpu: Mapping[str, str], pieces: Option | None) -> Block:
        conf = self._conf(command) if command.env in FILES else []
        return make_block(command, conf, gpu, self.hosts, pieces)

    def _machines(self, command: Command) -> list[str]:
        """The hosts of `ssh.pl`, read once."""
        if self.hosts is not None:
            return self.hosts
        text, findings = read_text(self.done.recipe, MACHINES)
        self.done.findings += findings
        hosts = []
        for number, line in enumerate((text or "").split("\n"), start=1):
            if host := line.strip():
                hosts.append(host)
                place = Place(MACHINES, number)
                self._tell(Finding(host, place, Fate.MAPPED, f"options.hosts: {host}"))
        if not hosts and not findings:
            why = f"there is no {MACHINES} with hosts, without which ssh.pl does not run either"
            ask = "the hosts, if you want env: ssh"
            self._tell(Finding(command.program, command.place, Fate.UNMAPPED, why, ask))
        self.hosts = hosts
        return hosts

    def _conf(self, command: Command) -> list[Line]:
        name = command.options.get("config", FILES[command.env])
        key = f"{command.env} {name}"
        if key not in self.confs:
            text, findings = read_text(self.done.recipe, name)
            if text is not None:
                self.confs[key], findings = parse_conf(text, name)
            elif findings:
                self.confs[key] = []
            elif "config" in command.options:
                findings = [problem(command.place, f"--config {name}", "there is no such file")]
                self.confs[key] = []
            else:
                own = f"{command.program} without {name}"
                self.confs[key], _ = parse_conf(BUILT_IN[command.env], own, numbered=False)
            self.done.findings += findings
        if "config" in command.options:
            why = "what it says is in the files for this command"
            self._tell(Finding(f"--config {name}", command.place, Fate.MAPPED, why))
        return self.confs[key]

    def _unused(self) -> None:
        """Lines that no command's options reach, and so no file."""
        for lines in self.confs.values():
            for line in dict.fromkeys(lines):
                if line in self.used or line.place.line is None:
                    continue
                went = "no command of cmd.sh asks for it"
                if line.kind == "command":
                    went = "a later `command` replaces it"
                elif line.name in _UNUSED:
                    went += f"; it would be {_UNUSED[line.name]}"
                elif line.name == "num_nodes":
                    went += "; a worker is on one node"
                self._tell(Finding(str(line), line.place, Fate.UNUSED, went))
        read = {key.partition(" ")[2] for key in self.confs}
        for path in sorted(self.done.recipe.glob("conf/*.conf")):
            name = f"conf/{path.name}"
            if re.match(r"(queue|slurm|pbs)", path.name) and name not in read:
                why = "no command of cmd.sh reads it"
                self._tell(Finding(path.name, Place(name), Fate.UNUSED, why))
