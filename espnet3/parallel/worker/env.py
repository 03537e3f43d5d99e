"""The env of this worker process: one at a time, the old one gone before the next is built."""

from collections.abc import Callable
from typing import Any

from espnet3.parallel.env_provider import check_env
from espnet3.parallel.worker.memory import free_unused

# An importable module's globals are one per process; those of functions pickled from a script's
# __main__ are not.
_env: tuple[str, dict[str, Any]] | None = None
_model: tuple[str, Any] | None = None


def env_for(
    token: str, provider: str, setup: Callable[[], dict[str, Any]], model_key: str | None
) -> dict[str, Any]:
    """The env that belongs to `token`, built if it is not the one that is kept.

    Args:
        token: names the run.
        provider: name of the provider, for messages.
        setup: builds the env.
        model_key: the model of the last env is kept for this one only if it had the same key.

    Raises:
        ConfigError: if `setup` gives something else than an env.
        Exception: whatever `setup` raises.
    """
    global _env
    if _env is not None and _env[0] == token:
        return _env[1]
    drop_env(but_model=model_key)
    env = check_env(setup(), provider)
    _env = token, env
    return env


def keep_model(key: str | None, build: Callable[[], Any]) -> Any:
    """The model with that key: the one that this process has, or else a new one, which is kept.

    Args:
        key: says all that the model is made from; None if nobody can say: it is built, not kept.
        build: builds it.
    """
    global _model
    if key is None:
        return build()
    if _model is None or _model[0] != key:
        _model = None
        _model = key, build()
    return _model[1]


def drop_env(but_model: str | None = None) -> None:
    """Let go of the env, so that its memory, a GPU's too, is free for the next one.

    Args:
        but_model: key of a model that may stay.
    """
    global _env, _model
    if _env is None and _model is None:
        return
    _env = None
    if _model is not None and _model[0] != but_model:
        _model = None
    free_unused()
