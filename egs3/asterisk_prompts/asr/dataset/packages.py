"""The Debian packages that the prompts come in: fetched without root, unpacked, not installed."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

from espnet3.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

VOICES = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
"""Language -> directory of its voice inside the package."""


def names(language: str) -> tuple[str, str]:
    """The packages of a language: that with the audio, and that with the transcripts."""
    return f"asterisk-core-sounds-{language}-g722", f"asterisk-core-sounds-{language}"


def fetch(language: str, source: Path, packages_dir: str | Path | None) -> None:
    """Unpack the two packages of a language into ``<source>/<language>``.

    Args:
        language: One of `VOICES`.
        source: Where unpacked packages go.
        packages_dir: A directory with the ``.deb`` files; None to have ``apt-get`` download them.

    Raises:
        ConfigError: There is no such language, or a command is missing.
        DataError: A package cannot be had.
    """
    if language not in VOICES:
        raise ConfigError(f"create_dataset.languages: {language!r} is none of {', '.join(VOICES)}")
    temporary = source / f".{language}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "debs").mkdir(parents=True)
    for name in names(language):
        if packages_dir is None:
            _run(["apt-get", "download", name], temporary / "debs", f"package {name}")
            deb = _only(temporary / "debs", name)
        else:
            deb = _only(Path(packages_dir), name)
        _run(["dpkg-deb", "--extract", str(deb.absolute()), "."], temporary, str(deb))
    shutil.rmtree(temporary / "debs")
    shutil.rmtree(source / language, ignore_errors=True)
    temporary.rename(source / language)  # its name says that it is whole


def audio_dir(source: Path, language: str) -> Path:
    """Where the ``.g722`` files of a language are."""
    return source / language / "usr/share/asterisk/sounds" / VOICES[language]


def transcript_file(source: Path, language: str) -> Path:
    """The compressed file with a line ``key: text`` for each of them."""
    name = names(language)[1]
    return source / language / "usr/share/doc" / name / f"core-sounds-{language}.txt.gz"


def _only(directory: Path, name: str) -> Path:
    found = sorted(directory.glob(f"{name}_*.deb"))
    if not found:
        raise DataError(f"{directory}: there is no {name}_*.deb")
    if len(found) > 1:
        raise DataError(f"{directory}: {', '.join(path.name for path in found)}; keep one of them")
    return found[0]


def _run(command: list[str], directory: Path, what: str) -> None:
    logger.info("%s", " ".join(command))
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise ConfigError(
            f"{command[0]} is not there: this recipe needs Debian or Ubuntu; elsewhere, put the "
            ".deb files into a directory, name it in create_dataset.packages_dir, and install dpkg"
        ) from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip()
        raise DataError(
            f"{what}: `{' '.join(command)}` failed: {said}; or put the .deb files into a directory "
            "and name it in create_dataset.packages_dir"
        ) from error
