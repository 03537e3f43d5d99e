"""What a recipe downloads and unpacks, as targets of `download` and archives of `extract`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from espnet3.components.data.fetch.targets import as_targets
from espnet3.errors import ConfigError
from espnet3.migrate.data.kinds import Kind
from espnet3.migrate.data.steps import Step
from espnet3.migrate.findings import Place
from espnet3.migrate.scripts.met import Part, Seen

_FETCHERS = ("wget", "curl")
_NAMED_BY = {"wget": ("-O", "--output-document"), "curl": ("-o", "--output")}
_TAKE_VALUE = re.compile(
    r"-[PoOatTUiweQbAXdFHucCmxy]|--(tries|timeout|read-timeout|waitretry|user-agent|directory-prefix"
    r"|output-document|output|retry|max-time|limit-rate|retry-delay|connect-timeout|wait)"
)
_NOT_PLAIN = re.compile(
    r"--(user|password|header|http-user|http-password|post-data|post-file|load-cookies|save-cookies"
    r"|data|form|cookie|cookie-jar|recursive|mirror|input-file|request)(=.*)?|-[iumr]"
)
_CURL_NOT_PLAIN = re.compile(r"-[dFHubcXT]")
_ARCHIVE = re.compile(r"\.(tar(\.(gz|bz2|xz|zst))?|tgz|tbz2?|txz|zip)$", re.IGNORECASE)
_PACKED = re.compile(r"\.(tar(\.\w+)?|t\wz\d?|zip|gz|bz2|xz|rar|7z)\w*$", re.IGNORECASE)


@dataclass
class Target:
    """A file to download.

    Attributes:
        url: Where it is.
        path: Its name in the directory for downloads.
        place: The command that fetched it.
        others: Other addresses of a file of that name.
    """

    url: str
    path: str
    place: Place
    others: list[tuple[str, Place]] = field(default_factory=list)


@dataclass(frozen=True)
class Todo:
    """Something that a person must write."""

    place: Place
    text: str
    why: str


@dataclass
class Downloads:
    """Attributes: `targets`, the names of those to unpack, and what is left to a person."""

    targets: list[Target] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    todo: list[Todo] = field(default_factory=list)


def find_downloads(seen: Iterable[tuple[Step, Seen]]) -> Downloads:
    """The downloads and extractions of a recipe.

    Args:
        seen: what a run of its scripts comes to.
    """
    done = Downloads()
    both = list(seen)
    for step, one in both:
        if step.kind is Kind.DOWNLOAD:
            for part in one.parts:
                _download(done, part, step)
    for step, one in both:
        if step.kind is Kind.EXTRACT:
            for part in one.parts:
                _extraction(done, part, step)
    done.todo = list(dict.fromkeys(done.todo))
    return done


def _download(done: Downloads, part: Part, step: Step) -> None:
    name = PurePosixPath((part.words[0] if part.words else "") or "").name
    if name not in _FETCHERS:
        if name and step.kind is Kind.DOWNLOAD and _is_other_download(step, name):
            why = f"`download` takes http and https, and not what {name} does; write it yourself"
            done.todo.append(Todo(step.place, step.text, why))
        return
    options = [word for word in part.written if word.startswith("-")]
    curl_only = name == "curl" and any(_CURL_NOT_PLAIN.fullmatch(word) for word in options)
    if curl_only or any(_NOT_PLAIN.fullmatch(word) for word in options):
        why = "it sends more than an address (a user, header, form or list); write it yourself"
        done.todo.append(Todo(step.place, step.text, why))
        return
    urls, output = _arguments(part.words[1:], _NAMED_BY[name])
    if not urls or None in urls:
        why = part.why or "no address stands there"
        done.todo.append(Todo(step.place, step.text, f"the address is not known: {why}"))
    for url in urls:
        if url is not None:
            _add(done, url, output if len(urls) == 1 else "", step)


def _is_other_download(step: Step, name: str) -> bool:
    """Whether the program is why the step is a download, and not a filter behind it."""
    return bool(re.match(rf"\S*\b{re.escape(name)}\b", step.text)) or name in ("git", "gdown")


def _arguments(
    words: Sequence[str | None], named_by: tuple[str, ...]
) -> tuple[list[str | None], str]:
    """The addresses, None for those that are not known, and the name of the file if given."""
    urls: list[str | None] = []
    output = ""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word is None:
            urls.append(None)
        elif word.partition("=")[0] in named_by and "=" in word:
            output = word.partition("=")[2]
        elif word in named_by:
            output = (rest.pop(0) if rest else "") or ""
        elif _TAKE_VALUE.fullmatch(word) and rest and word != "-c" and word != "-C":
            rest.pop(0)
        elif not word.startswith("-"):
            urls.append(word)
    return urls, output


def _add(done: Downloads, url: str, output: str, step: Step) -> None:
    # Without a scheme the programs take http.
    url = url if "://" in url else f"http://{url}"
    try:
        path = PurePosixPath(output or urlsplit(url).path).name
        as_targets([{"url": url, "path": path}])
    except (ConfigError, ValueError) as error:
        why = f"`download` cannot take {url}: {error}"
        done.todo.append(Todo(step.place, step.text, why))
        return
    same = next((target for target in done.targets if target.path == path), None)
    if same is None:
        done.targets.append(Target(url, path, step.place))
    elif url != same.url and all(url != other for other, _ in same.others):
        same.others.append((url, step.place))
        why = (
            f"{url} has the same file name as {same.url}: is it another address of it, or another "
            "file? Then give it a path of its own"
        )
        done.todo.append(Todo(step.place, step.text, why))


def _extraction(done: Downloads, part: Part, step: Step) -> None:
    named = [word for word in part.words[1:] if word is None or _PACKED.search(word)]
    if None in named:
        # The name may be certain where its directory is not.
        tails = [word.rpartition("/")[2].strip('"') for word in part.written if "/" in word]
        named += [tail for tail in tails if _PACKED.search(tail) and not re.search(r"[$`]", tail)]
    reads_archive = bool(part.words) and bool(named)
    if not reads_archive:
        if part.words and part.words[0] in ("tar", "unzip", "gunzip"):
            why = "which archive it unpacks is not known"
            done.todo.append(Todo(step.place, step.text, why))
        return
    for word in named:
        if word is None:
            continue
        name = PurePosixPath(word).name
        fitting = [one.path for one in done.targets if fnmatch.fnmatchcase(one.path, name)]
        if not fitting:
            why = f"{name} is none of the files that are downloaded: name it in `extract` yourself"
            done.todo.append(Todo(step.place, step.text, why))
        for path in fitting:
            if not _ARCHIVE.search(path):
                why = f"`extract` takes tar and zip, and not {path}: {_UNPACK}"
                done.todo.append(Todo(step.place, step.text, why))
            elif path not in done.archives:
                done.archives.append(path)
    if all(word is None for word in named):
        why = f"which archive it unpacks is not known: {part.why}"
        done.todo.append(Todo(step.place, step.text, why))


_UNPACK = "read it with gzip, bz2 or lzma in `build`, or unpack it yourself"
