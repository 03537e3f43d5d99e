"""``--canary``: one unit of ``infer`` on one real worker, and what it prints."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import click

from espnet3.errors import ConfigError, EnvBuildError, RunFailed, RunStopped
from espnet3.systems import debug_command
from espnet3.systems.command_line import Request

if TYPE_CHECKING:
    from espnet3.systems.base.inference_canary import InferenceCanary
    from espnet3.systems.base.system import BaseSystem


def run(system: BaseSystem, request: Request) -> None:
    """Try one unit.

    Raises:
        RunFailed: An item failed; the error ends with the command that does it here.
        ESPnet3Error: As ``infer`` would raise it.
    """
    from espnet3.systems.base.inference_canary import InferenceCanary

    canary = InferenceCanary(system._infer_config(), request.debug_item)
    unit, env = canary.unit, canary.settings[0].env
    names = ", ".join(map(unit.name_of, unit.positions))
    first = unit.positions[0]
    click.echo(f"canary: test set {unit.test_set}, {names} (position {first}), on env: {env}")
    keep = False
    try:
        canary.run()
        _tell(canary)
    except (ConfigError, EnvBuildError, RunFailed, RunStopped) as error:
        keep = not isinstance(error, ConfigError)
        _tell(canary)
        _tell_why(canary, error)
        if keep:
            click.echo(f"kept, to look at: {canary.directory}", err=True)
        if isinstance(error, RunFailed) and error.failures:
            error.debug = debug_command.command(request, error.failures[0])
        raise
    finally:
        if not keep:
            canary.clean()


def _tell(canary: InferenceCanary) -> None:
    for line in canary.lines():
        click.echo(f"  {line}")


def _tell_why(canary: InferenceCanary, error: Exception) -> None:
    """Print what stands behind an error; a run has it in its log."""
    if error.__cause__ is not None:
        click.echo("".join(traceback.format_exception(error.__cause__)).rstrip(), err=True)
    tail = canary.log_tail()
    if tail:
        click.echo("the end of the worker's log:", err=True)
    for line in tail:
        click.echo(f"  {line}", err=True)
