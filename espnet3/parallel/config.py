"""The ``parallel:`` block (where work runs) and the ``run:`` block (how it runs).

Both are read in one go, before anything starts: :func:`parse_parallel` reports every problem of the
two blocks in one error, and nothing in them is ever silently ignored.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from espnet3.errors import ConfigError
from espnet3.parallel import config_check
from espnet3.parallel.wording import shown


@dataclass(frozen=True)
class ParallelConfig:
    """Where work runs: the ``parallel:`` block.

    Attributes:
        env: The backend that starts the workers. ``local`` is this machine.
        n_workers: How many worker processes. ``local`` with 1 runs inside the driver's process.
        options: Keyword arguments of the Dask cluster class behind ``env``.
        worker_start_timeout: Seconds without any worker that end a run; null waits for batch jobs
            as long as they are queued.
        adaptive: ``minimum`` number of workers; between it and ``n_workers`` the number follows the
            work. Null keeps ``n_workers``.
        security: False leaves connections unencrypted, and open to whoever reaches them.
        workers_per_gpu: How many workers share a GPU, with ``local_gpu``.
    """

    env: str = "local"
    n_workers: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    worker_start_timeout: float | None = None
    adaptive: Mapping[str, Any] | None = None
    security: bool | None = None
    workers_per_gpu: int = 1

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and most workers."""
        least: int = (self.adaptive or {}).get("minimum", self.n_workers)
        return least, self.n_workers

    @property
    def n_at_first(self) -> int:
        """Workers that are asked for before it is known how much there is to do."""
        return max(1, self.bounds[0])

    @property
    def secure(self) -> bool:
        """Whether connections are encrypted and authenticated."""
        return self.security is not False


@dataclass(frozen=True)
class RunConfig:
    """How work runs: the ``run:`` block.

    Attributes:
        on_error: After a failed item, ``finish`` everything else and raise without publishing,
            ``skip`` it and publish without it, or ``raise`` at once.
        max_failures: Failed items after which the run stops; null for max(10, 1% of the items).
        max_kills: Workers that one item may kill before it is set aside.
        unit_timeout: Seconds that one unit (``forward`` and writing its record) may take; then its
            worker is ended. One local worker is a process of its own with it.
        lease_seconds: Longest time, in seconds, that a worker keeps results uncommitted.
        prefetch: Whether the next items are loaded while ``forward`` runs.
        resume: Go on with the run that is there. False starts over; the old run is kept until the
            new one is complete.
        accept_changes: Resume a run although its config has changed.
        allow_overwrite_lock: Take a run over without waiting to see whether its owner lives, also
            from one that does; that one stops.
        limit: Stop after the first so many items, without merging.
        batch_seconds: Most seconds of one batch, every item as long as its longest; ``batch_size``
            stays its most items. Null for batches of ``batch_size`` items.
    """

    on_error: str = "finish"
    max_failures: int | None = None
    max_kills: int = 2
    unit_timeout: float | None = None
    lease_seconds: float = 60.0
    prefetch: bool | None = None
    resume: bool = True
    accept_changes: bool = False
    allow_overwrite_lock: bool = False
    limit: int | None = None
    batch_seconds: float | None = None


PARALLEL_KEYS = tuple(field.name for field in dataclasses.fields(ParallelConfig))
RUN_KEYS = tuple(field.name for field in dataclasses.fields(RunConfig))


def parse_parallel(
    block: Any, run: Any = None, source: str = "parallel config"
) -> tuple[ParallelConfig, RunConfig]:
    """Check and read a ``parallel:`` block and a ``run:`` block.

    Args:
        block: The ``parallel:`` block: a mapping, a ``DictConfig``, a :class:`ParallelConfig`, or
            None for the defaults. Keys of ``run:`` may stand in it too.
        run: The ``run:`` block: a mapping, a ``DictConfig``, a :class:`RunConfig`, or None.
        source: Where the blocks come from, for messages: the config file where there is one.

    Returns:
        The two configs. They share no container with what was given.

    Raises:
        ConfigError: Anything in the blocks is wrong. The message lists every problem, each with
            its key and, for a misspelling, the nearest valid name.

    Not checked: whether the cluster exists, or accepts the values of ``options``.
    """
    problems: list[str] = []
    inside = _read_block(block, "parallel", source, problems)
    beside = _read_block(run, "run", source, problems)

    where = {key: inside.pop(key) for key in list(inside) if key in PARALLEL_KEYS}
    how = {key: inside.pop(key) for key in list(inside) if key in RUN_KEYS}
    problems += config_check.unknown_keys("parallel", inside, PARALLEL_KEYS + RUN_KEYS)
    problems += config_check.values("parallel", {**where, **how})

    known = {key: beside.pop(key) for key in list(beside) if key in RUN_KEYS}
    problems += config_check.unknown_keys("run", beside, RUN_KEYS, elsewhere=PARALLEL_KEYS)
    problems += config_check.values("run", known)
    problems += [
        f"parallel.{key} and run.{key} differ ({how[key]!r} and {known[key]!r}): keep one of them"
        for key in RUN_KEYS
        if key in how and key in known and how[key] != known[key]
    ]
    if where.get("options") is None:
        where.pop("options", None)  # `options:` with nothing behind it
    env = where.get("env", ParallelConfig.env)
    problems += config_check.env_options(env, where.get("options"))
    problems += config_check.adaptive(env, where)
    problems += config_check.gpu_sharing(env, where)
    if problems:
        raise ConfigError(config_check.report(source, problems))
    if where.get("adaptive") is not None:
        where["n_workers"] = config_check.most_workers(where)
        where["adaptive"] = {"minimum": where["adaptive"].get("minimum", 0)}
    return ParallelConfig(**_as_floats(where)), RunConfig(**_as_floats({**how, **known}))


def _as_floats(keys: dict[str, Any]) -> dict[str, Any]:
    durations = ("worker_start_timeout", "unit_timeout", "lease_seconds", "batch_seconds")
    return {key: float(v) if key in durations and v is not None else v for key, v in keys.items()}


def _read_block(block: Any, name: str, source: str, problems: list[str]) -> dict[Any, Any]:
    """Give a block as a new plain dict; what is no mapping becomes a problem."""
    if isinstance(block, ParallelConfig | RunConfig):
        # A dataclass holds every key; only what differs from the default was really said.
        given = {f.name: getattr(block, f.name) for f in dataclasses.fields(block)}
        default = dataclasses.asdict(type(block)())
        block = {key: value for key, value in given.items() if value != default[key]}
    plain = _plain(block, f"{source}: {name}")
    if plain is None:
        return {}
    if not isinstance(plain, dict):
        problems.append(
            f"{name}: must be a block of keys, as in `{name}: {{...}}`, not {shown(plain)}"
        )
        return {}
    return plain


def _plain(value: Any, where: str) -> Any:
    """Copy mappings and sequences, OmegaConf's included, into plain dicts and lists."""
    if "omegaconf" in sys.modules:  # else none of its objects can be here
        from omegaconf import DictConfig, ListConfig, OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        if isinstance(value, DictConfig | ListConfig):
            try:
                return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
            except OmegaConfBaseException as error:
                raise ConfigError(f"{where}: {error}") from error
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    return value
