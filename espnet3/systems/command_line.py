"""The command line of ``run.py``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet3.systems.base.stages import StageSpec, config_roles
from espnet3.utils.overrides import is_override

PARITY_ITEMS = 32  # of each test set

_NOT_SUPPORTED = {
    "--publication_config": "packing and publishing models is not supported",
    "--demo_config": "packing and publishing demos is not supported",
    "--write_requirements": "is not supported; the versions in use stand in each stage's log",
}


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        stages: As given, unchecked; ``all`` included.
        files: Config role -> files, the first one lowest. Roles not given are left out.
        overrides: ``[+][role.]key=value`` words.
        dry_run: Whether only to show what would run.
        limit: Decode only so many items per test set.
        debug_item: Do only this item, in this process: an utterance id or ``#position``.
        parity: Only compare so many items of each test set, alone and in batches.
        canary: Do only one unit, of `debug_item` if that is given, on a real worker.
        command: The whole command line, for logs.
    """

    stages: tuple[str, ...]
    files: dict[str, tuple[Path, ...]]
    overrides: tuple[str, ...] = ()
    dry_run: bool = False
    limit: int | None = None
    debug_item: str | None = None
    canary: bool = False
    parity: int | None = None
    command: tuple[str, ...] = ()


def parse_command_line(stages: Sequence[StageSpec], argv: Sequence[str] | None = None) -> Request:
    """Read a command line; ``--help`` and wrong usage end the process as argparse does (status 2).

    Args:
        stages: The system's stages; each of their config roles has an option.
        argv: The words after the program's name; the process's own if left out.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # They may stand anywhere, also behind an option that takes several values.
    overrides = tuple(word for word in words if is_override(word))
    parser = _parser(stages)
    parsed, unknown = parser.parse_known_args([word for word in words if not is_override(word)])
    for word in unknown:
        name = word.partition("=")[0]
        if name in _NOT_SUPPORTED:
            parser.error(f"{name}: {_NOT_SUPPORTED[name]}")
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)} (see --help)")
    given = {role: getattr(parsed, f"{role}_config") for role in config_roles(stages)}
    return Request(
        stages=tuple(parsed.stages),
        files={role: tuple(files) for role, files in given.items() if files},
        overrides=overrides,
        dry_run=parsed.dry_run,
        limit=parsed.limit,
        debug_item=parsed.debug_item,
        canary=parsed.canary,
        parity=parsed.parity,
        command=(sys.argv[0], *words),
    )


def _parser(stages: Sequence[StageSpec]) -> argparse.ArgumentParser:
    names = ", ".join(stage.name for stage in stages)
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        usage="%(prog)s --stages STAGE ... [--ROLE_config FILE ...] [options] [key=value ...]",
        epilog="key=value sets a key of the config that has it, role.key=value one of that"
        " role's config, +role.key=value adds a key. Relative paths are relative to the working"
        " directory.",
    )
    parser.add_argument(
        "--stages",
        nargs="+",
        default=["all"],
        metavar="STAGE",
        help=f"what to run, always in this order: {names}; or all (the default)",
    )
    for role in config_roles(stages):
        users = ", ".join(stage.name for stage in stages if role in stage.roles)
        parser.add_argument(
            f"--{role}_config",
            nargs="+",
            type=Path,
            metavar="FILE",
            help=f"config of {users}; each further file is laid over those before it",
        )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="check everything, show what would run and what is left of it, run nothing",
    )
    parser.add_argument(
        "--canary",
        action="store_true",
        help="infer one item (or batch) on one real worker of the backend, without touching the"
        " run: the first that is not done, or the one that --debug_item names",
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="infer only the first N items of each test set, without merging; a later run without"
        " --limit goes on from them",
    )
    parser.add_argument(
        "--debug_item",
        metavar="UTT",
        help="infer this one utterance (an id, or '#0' for the first of each test set) here,"
        " without touching the run, with a debugger where it fails",
    )
    parser.add_argument(
        "--parity",
        nargs="?",
        type=int,
        const=PARITY_ITEMS,
        metavar="N",
        help=f"infer about N items ({PARITY_ITEMS}) of each test set here, each alone and in its"
        " batch, and print where the results differ, without touching the run",
    )
    return parser
