"""Python and Perl scripts of a recipe: the lines that fetch, unpack, convert or start programs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from espnet3.migrate.data.kinds import JOBS, REPLACED_BY, Kind
from espnet3.migrate.data.steps import DataSteps, Step
from espnet3.migrate.findings import Place
from espnet3.migrate.text_files import read_text

_KINDS = {
    Kind.DOWNLOAD: r"urlretrieve|urlopen|requests\.get|wget\.download|gdown\.\w+|snapshot_download"
    r"|hf_hub_download|load_dataset\(|download_url|LWP::|getstore\(",
    Kind.EXTRACT: r"tarfile\.open|ZipFile\(|unpack_archive|extractall\(|gzip\.open|Archive::",
    Kind.JOBS: r"multiprocessing|\bPool\(|PoolExecutor\(|joblib\.|Parallel\(|\bfork\b",
    Kind.AUDIO: r"\b(soundfile|sf|librosa|torchaudio|wavfile|sox|AudioSegment)\.(read|load|write"
    r"|info|save|from_\w+|Transformer)\b|\b(sph2pipe|ffmpeg|sox|flac)\b[^#]*\|",
    Kind.TOOL: r"subprocess\.|os\.system\(|os\.popen\(|\bsystem\s*\(|\bqx[{(/]",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in _KINDS.items()}
_STARTS = "it starts a program: see there what it does, and take it over in `build`"


def scripts_of(steps: DataSteps) -> list[str]:
    """The Python and Perl scripts below ``local/`` that commands name, by where they lie."""
    found = (
        re.sub(r"^.*\blocal\b[}\"]*/", "local/", word)
        for _, seen in steps.seen
        for part in seen.parts
        for word in part.written
        if re.search(r"\blocal\b[}\"]*/[\w./-]+\.(py|pl)\"?$", word)
    )
    return list(dict.fromkeys(name.strip('"') for name in found))


def read_scripts(recipe: Path, names: Iterable[str], done: DataSteps) -> None:
    """Add what such scripts do to the steps.

    Args:
        recipe: the recipe's directory.
        names: the scripts, relative to it.
        done: gets a step for each line that matters, and what could not be read.
    """
    for name in names:
        text, findings = read_text(recipe, name)
        done.findings += findings
        if text is None:
            continue
        done.files.append(name)
        for number, line in enumerate(text.split("\n"), start=1):
            code = line.strip()
            if code.startswith(("#", "import ", "from ")):
                continue
            kind = next((k for k, p in _PATTERNS.items() if p.search(code)), None)
            if kind is not None:
                replaced_by = {Kind.JOBS: JOBS, Kind.TOOL: _STARTS}.get(kind) or REPLACED_BY[kind]
                done.steps.append(Step(kind, Place(name, number), code, replaced_by))
