"""One unit of a run on one real worker, in a directory of its own: what `--canary` does."""

import copy
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet3.parallel.backends import local
from espnet3.parallel.config import ParallelConfig, RunConfig
from espnet3.parallel.config_check import LOCAL
from espnet3.parallel.engine.directory import read_summary
from espnet3.parallel.env_provider import build_local, setup_function
from espnet3.parallel.parallel import get_client, parallel_session
from espnet3.parallel.worker.log import JOB_ID_VARIABLES

if TYPE_CHECKING:
    from espnet3.parallel.base_runner import BaseRunner

_NOTE = "worker.json"
_FOREVER = 1e9  # seconds


@dataclass(frozen=True)
class Sighting:
    """What the worker of a canary was seen to do, as far as it came.

    Attributes:
        host: where it ran.
        pid: of its process.
        job: the scheduler's id; "" if there is none.
        came: when it began to build the env (seconds since 1970, by its host's clock).
        env_seconds: that this took; None if it was not done.
    """

    host: str
    pid: int
    job: str
    came: float
    env_seconds: float | None = None


class Canary:
    """Does items in a directory of their own, on one worker that is otherwise as configured.

    Args:
        runner: used up: it is given another `output_dir`, and its provider takes times.
        items: of one unit.
        settings: the `parallel:` and `run:` blocks.
        scratch: a directory that driver and workers share.
    """

    def __init__(
        self,
        runner: "BaseRunner",
        items: Sequence[Any],
        settings: tuple[ParallelConfig, RunConfig],
        scratch: Path,
    ) -> None:
        self.began = 0.0
        """When the worker was asked for (seconds since 1970)."""
        self.device_memory: dict[str, int] = {}
        """Device -> bytes that PyTorch had in use there at most."""
        self._runner = runner
        self._items = list(items)
        self._parallel, self._config = settings
        self._scratch = scratch
        runner.output_dir = scratch / "run"
        runner.resume = True

    def run(self) -> Any:
        """Do it; return what the runner's call returns, and raise what it raises."""
        parallel, limit = replace(self._parallel, n_workers=1), self._config.unit_timeout
        if parallel.env == "local" and self._parallel.n_workers > 1 and limit is None:
            limit = _FOREVER  # else one local worker would be no process
        config = RunConfig(unit_timeout=limit, max_kills=1, prefetch=False)
        _take_times(self._runner.provider, self._scratch / _NOTE)
        self.began = time.time()
        with _threads_of_one(self._parallel), parallel_session(parallel, config):
            returned = self._runner(self._items)
            if parallel.env == "local" and limit is None:
                self.device_memory = device_memory()
            else:
                with get_client(parallel) as client:
                    for found in client.run(device_memory, on_error="ignore").values():
                        self.device_memory.update(found or {})
        return returned

    @property
    def sighting(self) -> Sighting | None:
        """What is known of its worker; None if none has begun."""
        with suppress(OSError, ValueError, TypeError):
            return Sighting(**json.loads((self._scratch / _NOTE).read_bytes()))
        return None

    @property
    def forward_seconds(self) -> float:
        """Seconds in `forward`, once it is done."""
        return read_summary(self._runner.run_dir).forward_seconds


class _Timed:
    """A function that builds an env; in the worker, it notes who builds it and for how long."""

    def __init__(self, build: Callable[[], dict[str, Any]], note: Path) -> None:
        self._build = build
        self._note = note

    def __call__(self) -> dict[str, Any]:
        job = next((os.environ[name] for name in JOB_ID_VARIABLES if name in os.environ), "")
        seen = Sighting(os.uname().nodename, os.getpid(), job, time.time())
        self._write(seen)
        began = time.perf_counter()
        env = self._build()
        self._write(replace(seen, env_seconds=time.perf_counter() - began))
        return env

    def _write(self, seen: Sighting) -> None:
        self._note.write_text(json.dumps(asdict(seen)))


def _take_times(provider: Any, note: Path) -> None:
    """On the object, not around it: its class and name are told in messages."""
    as_it_was = copy.copy(provider)  # what it builds may hold on to it, and travels with it
    build = setup_function(as_it_was)
    provider.build_worker_setup_fn = lambda: _Timed(build, note)
    provider.build_env_local = _Timed(lambda: build_local(as_it_was), note)


@contextmanager
def _threads_of_one(parallel: ParallelConfig) -> Iterator[None]:
    """Let one local process have the share of the cores that it has among all of them."""
    share = local.worker_environment(parallel.n_workers) if parallel.env in LOCAL else {}
    os.environ.update(share)
    try:
        yield
    finally:
        for name in share:
            os.environ.pop(name, None)


def device_memory() -> dict[str, int]:
    """Bytes that PyTorch has had in use at most in this process, on each GPU that it has used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    devices = range(torch.cuda.device_count())
    used = {f"cuda:{i}": int(torch.cuda.max_memory_allocated(i)) for i in devices}
    return {device: n_bytes for device, n_bytes in used.items() if n_bytes}
