"""``--debug_item``: what it runs and prints, and the command that an error names for it."""

from __future__ import annotations

import shlex
import shutil
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from espnet3.errors import ConfigError
from espnet3.systems.command_line import Request
from espnet3.systems.role_configs import part_for
from espnet3.utils.masking import MASK, mask_argument
from espnet3.utils.overrides import is_override

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from espnet3.systems.base.inference_debug import FoundItem


def find(config: DictConfig, item: str) -> list[FoundItem]:
    """Find an item of ``infer``; see `inference_debug.find_item`."""
    from espnet3.systems.base.inference_debug import find_item

    return find_item(config, item)


def run(found: Iterable[FoundItem]) -> None:
    """Do the items one after the other and print what comes out.

    Raises:
        SystemExit: 1, with the traceback printed, if an item's code ended the process.
        BaseException: whatever else an item's code raises.
    """
    from espnet3.systems.base.inference_debug import shown

    for item in found:
        try:
            result = item.run()
        except SystemExit:
            traceback.print_exc()
            raise SystemExit(1) from None
        click.echo(f"test set {item.test_set}, {item.name} (position {item.position}):")
        for line in shown(result):
            click.echo(f"  {line}")


def command(request: Request, failure: Mapping[str, Any]) -> str:
    """Return the command that does one failed item of ``infer`` alone.

    Args:
        request: What was launched; only what ``infer`` needs of it is kept.
        failure: The item's record in `RunFailed.failures`.
    """
    try:
        part = part_for(request, "inference")
    except ConfigError:  # a file has been edited since; this must not hide what failed
        part = request
    words = [_python(), request.command[0], "--stages", "infer"]
    for role, files in part.files.items():
        words += [f"--{role}_config", *map(str, files)]
    overrides = [mask_argument(text) for text in part.overrides]
    item = str(failure["utterance"])
    # Such an id would be taken for an option, or for an override.
    odd = item.startswith("-") or is_override(item)
    words += [*overrides, *([f"--debug_item={item}"] if odd else ["--debug_item", item])]
    masked = overrides != list(part.overrides)
    return shlex.join(words) + (f"  # put in what {MASK} stands for" if masked else "")


def _python() -> str:
    """Return this interpreter as it can be typed."""
    found = shutil.which("python")
    same = found is not None and Path(found).parent == Path(sys.executable).parent
    return "python" if same else sys.executable
