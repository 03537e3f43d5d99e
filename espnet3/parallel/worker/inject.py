"""Giving a function those entries of the env that it names as parameters."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from espnet3.errors import ConfigError


@lru_cache(maxsize=256)
def _parameters(function: Callable[..., Any]) -> tuple[frozenset[str], frozenset[str], bool]:
    """Names a function takes, those it cannot do without, and whether it takes any name."""
    names, needed, takes_all = set(), set(), False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_all = True
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            names.add(parameter.name)
            if parameter.default is parameter.empty:
                needed.add(parameter.name)
    return frozenset(names), frozenset(needed), takes_all


@lru_cache(maxsize=256)
def _first_names(function: Callable[..., Any], n: int) -> tuple[str, ...]:
    return tuple(list(inspect.signature(function).parameters)[:n])


def select_env(
    function: Callable[..., Any], env: Mapping[str, Any], n_given: int = 0
) -> dict[str, Any]:
    """The entries of `env` that `function` takes, by parameter name; all with `**kwargs`.

    Args:
        function: what will be called.
        env: what could be injected.
        n_given: how many arguments the caller passes itself, by position.

    Raises:
        ConfigError: if a parameter without default is neither given nor in the env.
    """
    names, needed, takes_all = _parameters(function)
    given = _first_names(function, n_given)
    missing = needed - env.keys() - set(given)
    if missing:
        raise ConfigError(
            f"{function.__qualname__} needs {', '.join(map(repr, sorted(missing)))}, but the "
            f"provider's env has only {sorted(map(str, env))}"
        )
    return {k: v for k, v in env.items() if k not in given and (takes_all or k in names)}


def check_given(
    function: Callable[..., Any], given: Sequence[str], *, nothing_else: bool = False
) -> None:
    """Check that a function can be called with what the engine passes by position.

    Args:
        function: what will be called.
        given: names of the arguments that are passed.
        nothing_else: it gets no entries of the env.

    Raises:
        ConfigError: it cannot.
    """
    signature = inspect.signature(function)
    try:
        (signature.bind if nothing_else else signature.bind_partial)(*given)
    except TypeError as error:
        raise ConfigError(
            f"{function.__qualname__} is called with ({', '.join(given)}), which its signature "
            f"{signature} does not allow: {error}"
        ) from error


def call(function: Callable[..., Any], *args: Any, env: Mapping[str, Any]) -> Any:
    """Call `function(*args)` with what it takes of `env`."""
    return function(*args, **select_env(function, env, len(args)))
