"""The files of a new recipe, and of one that decodes a Kaldi data directory."""

from __future__ import annotations

import json
import keyword
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from espnet3.errors import ConfigError
from espnet3.skeleton.fill import filled

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

_OFFER = """\
  # English at 16 kHz, with `pip install 'espnet3[asr]'`:
  # _target_: egs3.mini_an4.asr.src.pocketsphinx_model.PocketSphinxModel
"""


@dataclass(frozen=True)
class Skeleton:
    """A recipe that is yet to be written.

    Attributes:
        files: Path below its directory -> text.
        command: Shell lines that run it.
        remarks: What there is to know about it, a sentence each.
    """

    files: dict[str, str]
    command: str
    remarks: tuple[str, ...] = ()


def new_recipe(name: str, out: Path) -> Skeleton:
    """A recipe of its own: data set, provider, model, configs and a test, on made-up data.

    Args:
        name: ``<corpus>/<task>``.
        out: Where it will be.

    Raises:
        ConfigError: The name cannot be one.
    """
    corpus, slash, task = name.partition("/")
    for part in (corpus, task):
        if not slash or not _NAME.fullmatch(part) or keyword.iskeyword(part):
            raise ConfigError(
                f"{name!r}: write <corpus>/<task>, as in librispeech/asr; each is a letter with "
                "letters, digits and _ behind it, for Python imports recipes by these names"
            )
    command = (
        f"cd {shlex.quote(str(out))}\n"
        "python run.py --stages create_dataset infer measure \\\n"
        "    --training_config conf/training.yaml \\\n"
        "    --inference_config conf/inference.yaml \\\n"
        "    --metrics_config conf/metrics.yaml"
    )
    return Skeleton(filled("recipe", {"corpus": corpus, "task": task}), command)


def from_kaldi(data: Path, out: Path) -> Skeleton:
    """A recipe that decodes a Kaldi data directory, by a placeholder for a model.

    Args:
        data: The directory.
        out: Where the recipe will be.

    Raises:
        DataError: It is no valid data directory.
        ConfigError: Its name cannot be that of a test set.
    """
    from espnet3.components.data.kaldi.checks import is_pipe
    from espnet3.components.data.kaldi_dataset import KaldiDataset

    dataset = KaldiDataset(data, allow_pipes=True)
    name = data.resolve().name
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise ConfigError(f"{data}: {name!r} cannot be the name of a test set; rename it")
    values = _values(data, "wav.scp") or _values(data, "feats.scp")
    pipes = any(map(is_pipe, values))
    relative = any(not is_pipe(value) and not os.path.isabs(value) for value in values)
    is_audio = (data / "wav.scp").exists()
    recipe = out.absolute()
    start = Path.cwd() if relative else recipe
    words = {
        "name": name,
        "data": str(data.absolute()),
        "data_quoted": _quoted(data.absolute()),
        "n": str(len(dataset)),
        "pipes": str(pipes).lower(),
        "input": "speech" if is_audio else "feats",
        "things": "samples" if is_audio else "frames",
        "shape": (
            "Samples of shape (n,), in [-1, 1)."
            if is_audio
            else "Features of shape (frames, dimensions)."
        ),
        "offer": _OFFER if is_audio else "",
        "recipe_dir": _quoted(recipe) if relative else ".",
        "start": _quoted(start) if relative else ".",
    }
    has_text = (data / "text").exists()
    command = _kaldi_command(recipe, out, start, has_text)
    words["command"] = "\n".join(f"    {line}" for line in command.splitlines())
    files = filled("kaldi", words)
    if not is_audio:
        files["src/model.py"] = files["src/model.py"].replace("speech", "feats")
    remarks = ["the model is a placeholder: put yours into src/model.py"]
    if not has_text:
        del files["conf/metrics.yaml"]
        remarks.append(f"{data} has no text, so there is nothing to measure by")
    if pipes:
        remarks.append("scp files hold commands, so conf/inference.yaml says allow_pipes: true")
    if relative:
        remarks.append(f"paths in the scp files are relative: start run.py in {start}")
    return Skeleton(files, command, tuple(remarks))


def _kaldi_command(recipe: Path, out: Path, start: Path, has_text: bool) -> str:
    def path(name: str) -> str:
        return name if start == recipe else shlex.quote(str(recipe / name))

    lines = [
        f"cd {shlex.quote(str(out if start == recipe else start))}",
        f"python {path('run.py')} --stages infer{' measure' if has_text else ''} \\",
        f"    --inference_config {path('conf/inference.yaml')}",
    ]
    if has_text:
        lines[-1] += " \\"
        lines.append(f"    --metrics_config {path('conf/metrics.yaml')}")
    return "\n".join(lines)


def _quoted(path: Path) -> str:
    """What stands between double quotes, in YAML and in Python."""
    return json.dumps(str(path), ensure_ascii=False)[1:-1]


def _values(data: Path, name: str) -> list[str]:
    from espnet3.components.data.kaldi.directory import read_kaldi_dir

    directory = read_kaldi_dir(data, allow_pipes=True)
    return list(directory[name].values) if name in directory else []
