"""``parallel:`` blocks as YAML files that say where each line comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from espnet3.migrate.blocks import Block
from espnet3.parallel.wording import printable


def yaml_text(block: Block, about: str) -> str:
    """The file of a block.

    Args:
        block: the block.
        about: what it is for; stands at its top.
    """
    lines = [f"# {printable(about)}", "parallel:"]
    for key, value in block.parallel.items():
        if key != "options":
            lines += _entry("  ", key, value, _why(block, key, key))
    if "n_workers" in block.placeholders and "n_workers" not in block.parallel:
        lines.append(f"  # n_workers: 1   # DECIDE: {block.placeholders['n_workers']}")
    options = block.parallel.get("options")
    if options:
        lines.append("  options:")
        for key, value in options.items():
            lines += _entry("    ", key, value, _why(block, key, f"options.{key}"))
        for key, why in block.placeholders.items():
            name = key.removeprefix("options.")
            if key != name and name not in options:
                lines.append(f"    # {name}:   # DECIDE: {why}")
    return "\n".join(lines) + "\n"


def _why(block: Block, key: str, path: str) -> str:
    if path in block.placeholders:
        return f"DECIDE: {block.placeholders[path]}"
    return block.origin.get(key, "")


def _entry(indent: str, key: str, value: Any, why: str) -> Iterable[str]:
    text = yaml.safe_dump({key: value}, sort_keys=False, width=10_000, allow_unicode=True)
    lines = [indent + line for line in text.rstrip("\n").splitlines()]
    if why:
        lines[0] += f"  # {printable(why)}"
    return lines
