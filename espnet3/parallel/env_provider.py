"""Providers: how to build the dataset, the model and whatever else `forward` needs."""

from collections.abc import Callable
from typing import Any, cast

from espnet3.errors import ConfigError


class EnvironmentProvider:
    """Builds the env of one process: a dict that is injected into `forward` and the hooks by name.

    A subclass implements `build_env_local` or `build_worker_setup_fn`; the other follows from it.
    The env is built once in each worker process and kept there, so heavy things (a model) belong
    here and not into `forward`.

    Args:
        config: anything the subclass builds from, most often an OmegaConf config of plain values.
            It travels to the workers with the provider, and a run remembers its values, and size
            and time of the files that it names: when they change, the run refuses to go on.

    Example:
        >>> class Greetings(EnvironmentProvider):
        ...     def build_env_local(self):
        ...         return {"dataset": ["hello", "world"]}
    """

    def __init__(self, config: Any = None) -> None:
        self.config = config

    def build_env_local(self) -> dict[str, Any]:
        """Build the env in this process.

        Returns:
            The env, by name. Nothing in it needs to be picklable.
        """
        if type(self).build_worker_setup_fn is EnvironmentProvider.build_worker_setup_fn:
            raise ConfigError(
                f"{type(self).__name__} must implement build_env_local() or "
                "build_worker_setup_fn(); it has neither"
            )
        return self.build_worker_setup_fn()()

    def build_worker_setup_fn(self) -> Callable[[], dict[str, Any]]:
        """Give a function that builds the env in a worker process.

        Returns:
            A function without parameters. It is pickled (by cloudpickle, so a closure is fine) and
            called once in each worker process. Capture small things only: a config, not a model.
        """
        return self.build_env_local


def setup_function(provider: Any) -> Callable[[], dict[str, Any]]:
    """The function that builds `provider`'s env in a worker; also for duck-typed providers.

    Raises:
        ConfigError: if the object has neither of the two methods.
    """
    build = getattr(provider, "build_worker_setup_fn", None)
    if callable(build):
        return cast(Callable[[], dict[str, Any]], build())
    local = getattr(provider, "build_env_local", None)
    if callable(local):
        return cast(Callable[[], dict[str, Any]], local)
    raise ConfigError(
        f"{type(provider).__name__} is no provider: it has neither build_worker_setup_fn() nor "
        "build_env_local(); derive it from EnvironmentProvider"
    )


def model_key(provider: Any) -> str | None:
    """What `provider`'s model is made from, if the provider can say so; None if it cannot."""
    method = getattr(provider, "model_key", None)
    key = method() if callable(method) else None
    return None if key is None else str(key)


def build_local(provider: Any) -> dict[str, Any]:
    """Build `provider`'s env in this process; also for duck-typed providers."""
    method = getattr(provider, "build_env_local", None)
    env = method() if callable(method) else setup_function(provider)()
    return check_env(env, type(provider).__name__)


def check_env(env: Any, provider: str) -> dict[str, Any]:
    """Refuse an env that is not a dict with string keys.

    Raises:
        ConfigError: naming the provider.
    """
    if not isinstance(env, dict) or not all(isinstance(key, str) for key in env):
        raise ConfigError(
            f"{provider} built a {type(env).__name__}; an env is a dict from names to values"
        )
    return env
