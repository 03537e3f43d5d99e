"""What the event log says of a start: who does what, where, how and with which versions."""

import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import espnet3
from espnet3.parallel.config import ParallelConfig, RunConfig
from espnet3.parallel.engine.durations import keep_durations
from espnet3.parallel.engine.events import PLANNING
from espnet3.parallel.engine.run import Run
from espnet3.utils.masking import mask_argument

LONGEST_COMMAND = 20_000  # characters


def tell_of_start(
    run: Run,
    parallel: ParallelConfig,
    config: RunConfig,
    durations: Sequence[float] | None,
) -> None:
    """Log the start of a run, and keep the durations beside it.

    Args:
        run: that is to be done.
        parallel: where.
        config: how.
        durations: seconds of audio of each item, if known.
    """
    goal, command = run.plan.goal, _command()
    run.events.tell(
        "start",
        run_id=run.run_id,
        host=os.uname().nodename,
        pid=os.getpid(),
        cwd=_working_directory(),
        python=sys.executable,
        command=command,
        masked=command != list(sys.orig_argv) or None,
        resume=config.resume,
        backend=parallel.env,
        n_workers=parallel.n_workers,
        n_items=run.plan.n_positions,
        goal=goal,
        batch_size=run.plan.batch_size,
        done_before=len(run.coverage.accepted),
        failed_before=len(run.coverage.failed) or None,
        audio=None if durations is None else round(run.audio, 3),
        audio_left=None if durations is None else round(run.audio_left, 3),
        versions=_versions(parallel),
    )
    run.events.state(PLANNING)
    if durations is not None:
        keep_durations(run.run_dir, durations)


def _command() -> list[str]:
    words = [mask_argument(word) for word in sys.orig_argv]
    return words if sum(map(len, words)) <= LONGEST_COMMAND else words[:2]


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _versions(parallel: ParallelConfig) -> dict[str, Any]:
    versions = {"espnet3": espnet3.__version__, "python": platform.python_version()}
    if parallel.env != "local" or parallel.n_workers > 1:  # else Dask is not even imported
        from importlib.metadata import PackageNotFoundError, version

        for name in ("dask", "distributed"):
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                continue
    return versions
