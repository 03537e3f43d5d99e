"""What a stage is, and the check that a system's stages and its methods belong together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from espnet3.errors import ConfigError

_Method = TypeVar("_Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class StageSpec:
    """One stage of a system; the method of the same name does the work.

    Attributes:
        name: The method's name.
        config: The config role it needs (``"training"`` for ``training_config``), or several.
        log_dir: Dotted key, in the config of the first role, of the directory for ``<name>.log``.
        required: Dotted keys that the config of the first role must have.
    """

    name: str
    config: str | tuple[str, ...]
    log_dir: str = "exp_dir"
    required: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """The config roles as a tuple."""
        return (self.config,) if isinstance(self.config, str) else tuple(self.config)


def config_roles(stages: Iterable[StageSpec]) -> tuple[str, ...]:
    """Return every config role of the stages once, in the order in which they come up."""
    return tuple(dict.fromkeys(role for stage in stages for role in stage.roles))


def not_built(reason: str) -> Callable[[_Method], _Method]:
    """Mark a stage method that cannot run yet: ``launch`` refuses it, with ``reason``, at once.

    A subclass that overrides the method lifts the mark.
    """

    def mark(method: _Method) -> _Method:
        method.not_built = reason  # type: ignore[attr-defined]
        return method

    return mark


def why_not_built(system_class: type, stage: str) -> str:
    """Return the reason given to :func:`not_built`; empty for a stage that can run."""
    return str(getattr(getattr(system_class, stage), "not_built", ""))


def check_stages(system_class: type) -> None:
    """Check that ``system_class.stages`` and its methods belong together.

    Every stage needs a method that takes no arguments, every public method is a stage, and every
    config role is an argument ``<role>_config`` of the constructor.

    Raises:
        ConfigError: they do not; the message lists every mismatch.
    """
    stages = getattr(system_class, "stages", None)
    name = system_class.__qualname__
    if not isinstance(stages, tuple) or not all(isinstance(s, StageSpec) for s in stages):
        raise ConfigError(f"{name}.stages: must be a tuple of StageSpec, not {stages!r}")
    problems: list[str] = []
    names = [stage.name for stage in stages]
    problems += [f"stage {n!r} is declared twice" for n in sorted(set(names)) if names.count(n) > 1]
    for stage in stages:
        problems += _method_problems(system_class, stage.name)
        problems += _role_problems(system_class, stage)
    for attribute, value in vars(system_class).items():
        public = inspect.isroutine(value) or isinstance(value, (staticmethod, classmethod))
        if public and not attribute.startswith("_") and attribute not in names:
            problems.append(
                f"method {attribute}() is no declared stage: add a StageSpec, or name it"
                f" _{attribute}"
            )
    if problems:
        raise ConfigError(f"{name}: " + "; ".join(problems))


def _method_problems(system_class: type, stage: str) -> list[str]:
    method = getattr(system_class, stage, None)
    if not callable(method) or stage.startswith("_"):
        return [f"stage {stage!r} has no public method of that name"]
    try:
        inspect.signature(method).bind(None)
    except TypeError:
        return [f"stage {stage!r}: its method must take no argument but self"]
    return []


def _role_problems(system_class: type, stage: StageSpec) -> list[str]:
    if not stage.roles or len(set(stage.roles)) < len(stage.roles):
        return [f"stage {stage.name!r}: config must name one role or more, each once"]
    parameters = inspect.signature(system_class).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return []
    return [
        f"stage {stage.name!r}: the constructor has no argument {role}_config"
        for role in stage.roles
        if f"{role}_config" not in parameters
    ]
