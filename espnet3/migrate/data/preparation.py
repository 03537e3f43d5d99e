"""A recipe's data preparation as a whole: what is written for it, and what is told about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from espnet3.migrate.data.array_jobs import ArrayJob, find_array_jobs
from espnet3.migrate.data.builder_file import builder_file
from espnet3.migrate.data.downloads import Downloads, find_downloads
from espnet3.migrate.data.kinds import Kind
from espnet3.migrate.data.other_scripts import read_scripts, scripts_of
from espnet3.migrate.data.steps import SCRIPT, DataSteps, read_data_steps
from espnet3.migrate.findings import Fate, Finding, Place
from espnet3.skeleton.fill import EVERY, filled
from espnet3.skeleton.kaldi_dataset import kaldi_dataset
from espnet3.skeleton.recipe import DATASET_INIT, create_dataset_config

BUILDER = "dataset/builder.py"
CONFIG = "conf/training.yaml"
RUN = "run.sh"
_CONFIG_ABOUT = (
    "For the create_dataset stage; settings of training have no place here yet. The data sets of "
    "other stages are named in their own configs."
)


@dataclass
class Preparation:
    """What became of a recipe's data preparation.

    Attributes:
        steps: What its scripts do.
        downloads: What of it is written as downloads and extractions.
        jobs: Places where lists are split and jobs started.
        existing: Kaldi data directories that are there already, by name.
        files: Names of files to write, and their texts.
        findings: What could not be read, and what a person must decide.
    """

    steps: DataSteps
    downloads: Downloads
    jobs: list[ArrayJob] = field(default_factory=list)
    existing: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def read_preparation(recipe: Path, named: Mapping[str, list[str]]) -> Preparation | None:
    """Read the scripts of a recipe that make its data.

    Args:
        recipe: the recipe's directory.
        named: the data sets that its run scripts name, by what they are for.

    Returns:
        What became of them; None if it has neither ``local/data.sh`` nor ``run.sh``.
    """
    if not any((recipe / name).exists() for name in (SCRIPT, RUN)):
        return None
    steps = read_data_steps(recipe)
    read_scripts(recipe, scripts_of(steps), steps)
    done = Preparation(steps, find_downloads(steps.seen))
    done.jobs, problems = find_array_jobs(recipe)
    done.findings = [*steps.findings, *problems, *_decisions(done)]
    done.existing = _existing(recipe)
    data = str((recipe / "data").resolve()) if done.existing else ""
    done.files = {
        "dataset/__init__.py": DATASET_INIT,
        BUILDER: builder_file(done.downloads, done.existing),
        "dataset/dataset.py": kaldi_dataset(data),
        CONFIG: create_dataset_config(_CONFIG_ABOUT, _sets(named, done)),
    }
    if not (recipe / "run.py").exists():
        done.files |= filled(EVERY, {})
    return done


def _sets(named: Mapping[str, list[str]], done: Preparation) -> Mapping[str, list[str]]:
    if not any(named.values()):
        ask = f"name them under `dataset:` of {CONFIG}, where `test` is a placeholder"
        why = "--train_set, --valid_set and --test_sets are not certain there"
        place = Place(RUN)
        done.findings.append(Finding("data sets", place, Fate.UNMAPPED, why, ask, (CONFIG,)))
        return {"test": ["test"]}
    return {role: names for role, names in named.items() if names}


def _existing(recipe: Path) -> list[str]:
    """Kaldi data directories that ESPnet2 has made in the recipe."""
    try:
        return sorted(
            path.parent.name
            for path in recipe.glob("data/*/utt2spk")
            if (path.parent / "wav.scp").is_file() or (path.parent / "feats.scp").is_file()
        )
    except OSError:
        return []


def _decisions(done: Preparation) -> list[Finding]:
    found = []
    for todo in done.downloads.todo:
        what = f"write it into {BUILDER}"
        found.append(Finding(todo.text, todo.place, Fate.UNMAPPED, todo.why, what, (BUILDER,)))
    for target in done.downloads.targets:
        went = f"TARGETS: {target.path}"
        found.append(Finding(target.url, target.place, Fate.MAPPED, went, "", (BUILDER,)))
    for step in done.steps.steps:
        if step.kind is Kind.UNKNOWN:
            why = "not recognised"
            found.append(
                Finding(step.text, step.place, Fate.UNMAPPED, why, "whether it makes data")
            )
    if done.steps.files:
        why = "its rows are under Data preparation"
        ask = f"write `build` of {BUILDER}"
        found.append(
            Finding("data preparation", Place(SCRIPT), Fate.UNMAPPED, why, ask, (BUILDER,))
        )
    return found
