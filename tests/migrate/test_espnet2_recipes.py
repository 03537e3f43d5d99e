"""Every recipe of ESPnet2's source distribution; not part of the default run.

`ESPNET2=/path/to/espnet-202611 python -m pytest -m espnet2 tests/migrate`, where that directory is
the unpacked `espnet-202611.tar.gz` of PyPI. The scripts in it that submit jobs are run, with
stand-ins for `qsub` and `sbatch` that note what they are called with: our job scripts ask for the
same. `--junitxml` gets the figures.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from espnet3.migrate.cmd_sh import parse_cmd_sh
from espnet3.migrate.findings import Fate
from espnet3.migrate.recipe import ROLES, migrate
from espnet3.migrate.run.migration import migrate_runs
from espnet3.migrate.run.options import read_options, tables
from espnet3.migrate.run.script import parse_run_script
from espnet3.migrate.run.workers import Blocks
from espnet3.migrate.shell_text import statements
from espnet3.parallel.backends import asking
from espnet3.parallel.backends.job_script import job_script
from espnet3.parallel.config import parse_parallel
from tests.migrate.make_tables import tables as made_tables

ROOT = os.environ.get("ESPNET2", "")
pytestmark = [
    pytest.mark.espnet2,
    pytest.mark.skipif(not ROOT, reason="ESPNET2 names no source distribution of ESPnet2"),
]
EGS = Path(ROOT) / "egs2"
SCRIPTS = EGS / "TEMPLATE/asr1/utils/parallel"
# A user's own, laid over the recipes' cmd.sh.
MORE = {
    "sge": ["queue.pl --mem 4G --num_threads 2 --max_jobs_run 20 -l h_rt=3600", "queue.pl -q a.q"],
    "slurm": ["slurm.pl --mem 500M --time 1-0 --num-threads 1 -A me", "slurm.pl --time 4:0:0"],
    "pbs": ["pbs.pl --mem 4G --num_threads 2 -q work -A me -l walltime=1:0:0"],
}


def recipes() -> list[Path]:
    return sorted(file.parent for file in EGS.rglob("cmd.sh"))


@pytest.mark.timeout(900)
def test_every_recipe_migrates(record_property):
    unmapped: Counter[str] = Counter()
    n_files, confs = 0, 0
    for recipe in recipes():
        done = migrate(recipe)
        n_files += len(done.about)
        for file in done.about:
            text = done.files[file]
            if "metrics" not in file:
                parse_parallel(yaml.safe_load(text)["parallel"], source=file)
        told = {str(finding.place) for finding in done.findings}
        for name in ("queue", "slurm", "pbs"):
            conf = recipe / f"conf/{name}.conf"
            if not conf.exists():
                continue
            confs += 1
            for number, line in enumerate(conf.read_text().splitlines(), start=1):
                if line.partition("#")[0].strip():
                    assert f"conf/{name}.conf:{number}" in told, recipe
        unmapped.update(f"{f.setting}: {f.went_to}" for f in done.unmapped)
    record_property("recipes", len(recipes()))
    record_property("conf_files", confs)
    record_property("files", n_files)
    record_property("unmapped", unmapped.most_common())
    assert recipes()


# Commands that make data wherever they stand at the beginning of a line.
DATA = re.compile(
    r"\s*(!\s*)?(wget|curl|gdown|git clone|tar|unzip|gunzip|sox|ffmpeg|flac|sph2pipe|awk|sed|perl"
    r"|python3?|sort|utils/\w+\.\w+|local/[\w/]+\.\w+)(?=\s)"
)


@pytest.mark.timeout(900)
def test_every_data_preparation_is_read(tmp_path, record_property):
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    unread, missed = [], []
    for recipe in recipes():
        done = migrate(recipe).preparation
        if done is None:
            continue
        counts["recipes"] += 1
        counts["targets"] += len(done.downloads.targets)
        counts["recipes with targets"] += bool(done.downloads.targets)
        counts["archives"] += len(done.downloads.archives)
        counts["todo"] += len(done.downloads.todo)
        counts["lists split into jobs"] += len(done.jobs)
        kinds.update(step.kind.value for step in done.steps.steps)
        unread += [f for f in done.findings if "not read as shell" in f.went_to]
        listed: dict[str, set[int]] = {}
        for step in done.steps.steps:
            listed.setdefault(step.place.file, set()).add(step.place.line)
        for name in [name for name in done.steps.files if name.endswith(".sh")]:
            for number, statement in statements((recipe / name).read_text()):
                if DATA.match(statement):
                    counts["lines that begin with such a command"] += 1
                    # A line that goes on a command with quotes over several lines is in that row.
                    near = range(number - 8, number + statement.count("\n") + 9)
                    if not listed.get(name, set()).intersection(near):
                        missed.append(f"{recipe}/{name}:{number}")
        for name, text in done.files.items():
            path = tmp_path / "_".join(recipe.parts[-2:]) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    record_property("counts", dict(counts))
    record_property("kinds", kinds.most_common())
    record_property("missed", missed)
    assert unread == []
    assert len(missed) <= 15, missed
    ruff = [sys.executable, "-m", "ruff", "check", "--config", "pyproject.toml", tmp_path]
    checked = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.timeout(1800)
def test_every_option_of_every_run_script_is_told(record_property):
    scripts, options, unknown = 0, 0, 0
    places = {*EGS.glob("*/*/run*.sh"), *EGS.glob("*/run*.sh")}
    for recipe in sorted({path.parent for path in places} - {EGS}):
        done = migrate_runs(recipe, Blocks())
        assert not [f for f in done.findings if f.fate is Fate.PROBLEM], recipe
        told = {(f.setting, str(f.place)) for f in done.findings}
        for name in done.read:
            scripts += 1
            script = parse_run_script((recipe / name).read_text(), name)
            for call in script.calls:
                for option in read_options(recipe, call).given:
                    options += 1
                    unknown += option.value is None
                    assert (option.written, str(option.place)) in told, (recipe, option)
            for setting in script.settings:
                assert (setting.text, str(setting.place)) in told, (recipe, setting)
        for file, text in done.files.items():
            if "inference" in file:
                parse_parallel(yaml.safe_load(text)["parallel"], source=file)
    record_property("run_scripts", scripts)
    record_property("options", options)
    record_property("options_that_only_running_would_tell", unknown)
    assert scripts


def test_the_tables_are_those_of_the_archive():
    assert made_tables(Path(ROOT)) == tables()


def cases() -> list[tuple[str, str, str, str]]:
    """Each different (scheduler, conf file's text, role, command) of the archive, and ours."""
    found: dict[tuple[str, str, str, str], None] = {}
    for recipe in recipes():
        cmd = parse_cmd_sh((recipe / "cmd.sh").read_text())
        for commands in cmd.backends.values():
            for role, command in commands.items():
                conf = {"sge": "queue", "slurm": "slurm", "pbs": "pbs"}.get(command.env)
                if conf is None:
                    continue
                options = [f"--{k} {v}" for k, v in command.options.items() if k != "config"]
                program = command.program.replace("-freegpu", "")
                words = " ".join([program, *options, *command.native])
                for file in recipe.glob(f"conf/{conf}*.conf"):
                    for one in (words, *MORE[command.env]):
                        found[command.env, file.read_text(), role, one] = None
    # Without a file the scripts have defaults of their own. With GPUs these bring a time (slurm.pl)
    # or cores (pbs.pl), and which of two counts differs from call to call: so only one there.
    for env, commands in MORE.items():
        for role in ROLES:
            for one in [commands[0].split()[0]] if role == "cuda_cmd" else commands:
                found[env, "", role, one] = None
    return list(found)


def test_jobs_ask_for_what_the_scripts_asked_for(tmp_path, monkeypatch, record_property):
    if shutil.which("perl") is None:
        pytest.skip("the scripts are written in Perl")
    monkeypatch.setattr(asking, "answer", lambda command, gone=None: None)
    tried = cases()
    places = [tmp_path / str(n) for n in range(len(tried))]
    for recipe, (env, conf, role, command) in zip(places, tried, strict=True):
        (recipe / "conf").mkdir(parents=True)
        name = {"sge": "queue", "slurm": "slurm", "pbs": "pbs"}[env]
        if conf:
            (recipe / f"conf/{name}.conf").write_text(conf)
        (recipe / "cmd.sh").write_text(f'export {role}="{command}"\n')
    with ThreadPoolExecutor(len(tried)) as pool:  # queue.pl sleeps
        called = list(
            pool.map(lambda at, case: submitted(at, case[3], ROLES[case[2]][1]), places, tried)
        )
    for recipe, (env, _, role, command), words in zip(places, tried, called, strict=True):
        (text,) = migrate(recipe).files.values()
        parallel = yaml.safe_load(text)["parallel"]
        theirs = normal(env, words)
        ours = normal(env, directives(env, parallel["options"], recipe))
        theirs.pop("throttle", None)
        context = f"{env} {role}={command}\ntheirs: {theirs}\nours: {ours}"
        for key in theirs:
            assert ours.get(key) == theirs[key], context
        # Beyond that ours may only say what must be said here, or was the default there.
        assert set(ours) - set(theirs) <= {"memory", "walltime", "cores", "-notify", "select"}, (
            context
        )
    record_property("commands", len(tried))
    assert tried


def submitted(recipe: Path, command: str, gpu: dict[str, str]) -> list[str]:
    """What the script calls its scheduler with."""
    bin_dir = recipe / "bin"
    bin_dir.mkdir()
    for program in ("qsub", "sbatch"):
        file = bin_dir / program
        file.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$NOTES"\nexit 1\n')
        file.chmod(0o755)
    notes = recipe / "notes"
    program, *options = shlex.split(command)
    more = [word for key, value in gpu.items() for word in (f"--{key}", value)]
    subprocess.run(
        ["perl", SCRIPTS / program, *options, *more, "JOB=1:4", "log/x.JOB.log", "true", "JOB"],
        cwd=recipe,
        env={"PATH": f"{bin_dir}:{os.environ['PATH']}", "NOTES": str(notes)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return notes.read_text().splitlines()[:-1]  # the last one is the script of the job


def directives(env: str, options: dict, recipe: Path) -> list[str]:
    script = job_script(env, {"walltime": "9:09:09", **options}, recipe / "logs")
    head = {"slurm": "#SBATCH ", "sge": r"#\$ ", "pbs": "#PBS "}[env]
    lines = re.findall(rf"^{head}(.*)$", script, re.MULTILINE)
    return [word for line in lines for word in shlex.split(line)]


def normal(env: str, words: list[str]) -> dict[str, object]:
    """Options by one name each, without those about logs, names and arrays."""
    done: dict[str, object] = {}
    values: dict[str, set[str]] = {}
    words = [
        part for word in words for part in (word.split("=", 1) if word[:2] == "--" else [word])
    ]
    while words:
        name = words.pop(0)
        value = ""
        while words and not words[0].startswith("-"):
            value = f"{value} {words.pop(0)}".strip()
        values.setdefault(name, set()).update([value])
        done[name] = value
    for noise in ("-o", "-e", "-j", "-J", "-N", "-t", "-n", "--array", "--open-mode", "-cwd"):
        if noise != "-t" or env != "slurm":
            done.pop(noise, None)
    return slurm(done) if env == "slurm" else qsub(env, done, values)


def slurm(done: dict[str, object]) -> dict[str, object]:
    cores = int(str(done.pop("--cpus-per-task", done.get("-c", 1))))
    done.pop("-c", None)
    if done.get("--ntasks-per-node") == "1":  # as -n 1, which ours have
        del done["--ntasks-per-node"]
    time, memory = done.pop("--time", done.pop("-t", None)), done.pop("--mem", None)
    per_cpu = done.pop("--mem-per-cpu", None)
    if per_cpu is not None:
        memory = f"{int(str(per_cpu)[:-1]) * cores}{str(per_cpu)[-1]}"
    known = {"cores": cores, "memory": memory, "walltime": time}
    return {**done, **{key: value for key, value in known.items() if value is not None}}


def qsub(env: str, done: dict[str, object], values: dict[str, set[str]]) -> dict[str, object]:
    resources = {one for value in values.get("-l", ()) for one in value.split(",")}
    done.pop("-l", None)
    throttle = done.pop("-tc", None)
    if throttle:
        done["throttle"] = throttle
    for one in resources:
        name, _, value = one.partition("=")
        done[{"h_rt": "walltime"}.get(name, name)] = value
    return done
