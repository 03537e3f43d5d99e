"""The tasks as espnet3 runners, and one function that calls them in a measured process."""

import os
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import tasks
from espnet3.parallel.base_runner import BaseRunner, concatenate_shard_files
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import set_parallel

LINES = "lines"
"""The merged file, in the run directory."""


class TaskProvider(EnvironmentProvider):
    """Builds the env of the task that its config names: ``{"task": ..., "options": ...}``."""

    def build_env_local(self) -> dict[str, Any]:
        """Build the env."""
        return tasks.build(self.config["task"], self.config["options"])


class LineRunner(BaseRunner):
    """Writes one line per item with hooks of its own."""

    @staticmethod
    def open_writers(shard_dir: Path, **env: Any) -> dict[str, Any]:
        """Open the shard's file."""
        return {"lines": (shard_dir / LINES).open("w", encoding="utf-8"), "begin": perf_counter()}

    @staticmethod
    def write_record(
        writers: dict[str, Any], result: str, state: dict[str, Any], **env: Any
    ) -> None:
        """Write a line."""
        writers["lines"].write(result + "\n")

    @staticmethod
    def close_writers(writers: dict[str, Any], state: dict[str, Any], **env: Any) -> None:
        """Close the file, and note how long the loop of this shard took (see `loop_seconds`)."""
        writers["lines"].close()
        loop_seconds.append(perf_counter() - writers["begin"])

    def merge(self, shard_dirs: list[Path]) -> None:
        """Make one file of all."""
        concatenate_shard_files(shard_dirs, LINES, self.run_dir / LINES)


loop_seconds: list[float] = []
"""Of each shard that this process did: from its writers' opening to their closing."""


class Text(LineRunner):
    """See `tasks.text`."""

    forward: Any = staticmethod(tasks.text)


class Clock(LineRunner):
    """See `tasks.clock`."""

    forward: Any = staticmethod(tasks.clock)


class Nap(LineRunner):
    """See `tasks.nap`."""

    forward: Any = staticmethod(tasks.nap)


class Doze(LineRunner):
    """See `tasks.doze`."""

    forward: Any = staticmethod(tasks.doze)


class Logged(LineRunner):
    """See `tasks.logged`."""

    forward: Any = staticmethod(tasks.logged)


RUNNERS = {"text": Text, "clock": Clock, "nap": Nap, "doze": Doze, "logged": Logged}


def run(
    task: str,
    n: int,
    workers: int,
    out: str | os.PathLike[str],
    options: dict[str, Any] | None = None,
    durations: list[float] | None = None,
    limit: int | None = None,
    security: bool | None = None,
) -> dict[str, float]:
    """Do items 0..n-1 of a task; their lines are in ``<out>/lines`` then.

    Args:
        task: a key of `RUNNERS`.
        n: how many items.
        workers: processes; 1 is this one.
        out: the run directory.
        options: for `tasks.build`.
        durations: seconds of each item, if they are to be known.
        limit: see `run.limit`.
        security: see `parallel.security`.

    Returns:
        ``seconds``: of the whole call.
    """
    begin = perf_counter()
    parallel = {"env": "local", "n_workers": workers, "security": security}
    set_parallel(parallel, run={"limit": limit})
    provider = TaskProvider({"task": task, "options": options or {}})
    RUNNERS[task](provider, output_dir=out)(range(n), durations)
    return {"seconds": perf_counter() - begin}
