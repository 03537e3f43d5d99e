"""Runners: one static `forward(idx, **env)`, and how its results are written and merged."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet3.errors import ConfigError, DataError
from espnet3.parallel import results
from espnet3.parallel.hooks import RunnerHooks
from espnet3.parallel.worker.inject import check_given

if TYPE_CHECKING:
    from espnet3.parallel.parity import Parity
    from espnet3.parallel.run_plan import RunPlan


class BaseRunner(RunnerHooks):
    """Runs `forward` over items, in this process or on workers, and merges what they wrote.

    Where it runs is decided by `set_parallel`, not here. Results are committed in shards as the
    run goes on; calling the runner again after any interruption goes on from them, with any number
    of workers.

    Without a writer hook overridden, results are kept as JSON lines and the call returns them as a
    list, one for each item and in their order (tuples come back as lists). To write files of your
    own, override `open_writers`, `write_record` and `merge` (all are static or class methods but
    `merge`, since workers have the class, never the instance).

    Args:
        provider: builds the env (see `EnvironmentProvider`).
        batch_size: give `forward` lists of so many items in place of single ones.
        output_dir: where the run is kept. None: a temporary directory, removed after the call;
            only for runners without hooks.
        shard_subdir: the run's directory below `output_dir`.
        resume: go on with the run that is there. False sets it aside and starts over; it is
            removed when the new run is complete.

    Raises:
        ConfigError: if `batch_size` is not a positive integer, a hook takes `self`, or a hook
            does not take what it is given by position.
    """

    def __init__(
        self,
        provider: Any,
        batch_size: int | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        shard_subdir: str = "",
        resume: bool = True,
    ) -> None:
        if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
            raise ConfigError(f"batch_size must be a positive integer or None, not {batch_size!r}")
        self._check_methods()
        check_given(self.merge, ["shard_dirs"], nothing_else=True)
        self.provider = provider
        self.batch_size = batch_size
        self.output_dir = Path(output_dir) if output_dir is not None else None
        self.shard_subdir = shard_subdir or ""
        self.resume = resume
        self.starts_over = False
        """Set by a step that has found that the run there is of no use: as without `resume`, but
        nothing that a user has said, so no message tells to leave it out."""
        self.name_of: Callable[[Any], str] | None = None
        """How an item is called in messages where the driver must know it (a worker died)."""

    def merge(self, shard_dirs: list[Path]) -> Any:
        """Make the final result; called in the driver when every item is done.

        Called again whenever the runner is called on a finished run, so it must not use the shards
        up. The default returns the JSON results, or None if the runner writes in its own way.

        Args:
            shard_dirs: the shards' directories by place in the run's order, which is that of the
                items but for batches by length (see `in_order`). They cover every item once.
        """
        return results.read_results(shard_dirs) if self._keeps_json() else None

    def identity(self) -> dict[str, Any]:
        """What decides the results, as plain data by key; a change of it refuses to resume.

        The default names the runner, the provider, and every key of the provider's config as it is
        written, but for those that say where things run, are logged or are put; and size and time
        of the files that the config names. What a path cannot tell (a directory, a database, a
        model of a hub) a runner adds itself: `{**super().identity(), "model": its_revision}`.
        """
        from espnet3.parallel.runner_identity import identity_of

        run_dir = None if self.output_dir is None else self.run_dir
        return identity_of(type(self), self.provider, self.batch_size, run_dir)

    def code_identity(self) -> dict[str, str]:
        """A hash for each module of the user's code that decides the results, by its name.

        When one is another at the next call, a run that is not finished says so and goes on; a
        finished one is refused. The default takes the modules of the runner, the provider and what
        the provider's config names, and the local modules that these import.
        """
        from espnet3.parallel.code_identity import code_of, starts_of
        from espnet3.parallel.runner_identity import as_mapping

        config = as_mapping(getattr(self.provider, "config", None))
        return code_of(starts_of(type(self), self.provider, config))

    @property
    def run_dir(self) -> Path:
        """Directory of the run.

        Raises:
            ConfigError: if the runner has no `output_dir`.
        """
        if self.output_dir is None:
            raise ConfigError(f"{type(self).__name__} has no output_dir")
        return self.output_dir / self.shard_subdir

    def __call__(self, indices: Iterable[Any], durations: Sequence[float] | None = None) -> Any:
        """Do every item that is not done yet, then merge.

        Args:
            indices: the items: dataset indices, or any JSON values. A `range` costs nothing,
                however long it is.
            durations: seconds of audio of each item, if known: the longest are then done first,
                and batches are of like length where nobody can tell. They change the order of work
                and the batches alone, never the order of results.

        Returns:
            What `merge` returns; None if `run.limit` left items to do.

        Raises:
            RunFailed: if items failed (with `on_error: finish` after all others were done).
            RunStopped: if the run could not go on; what was committed is kept.
            RunInUse: if another driver owns the run directory.
            IdentityChanged: if the directory holds a run over other items or with another setup.
            EnvBuildError: if the provider could not build its env.
            ConfigError: if workers would do this call too, as it stands under no
                ``if __name__ == "__main__":``.
        """
        from espnet3.parallel.drive import drive
        from espnet3.parallel.main_guard import check_is_no_import

        check_is_no_import()
        with ExitStack() as stack:
            if self.output_dir is None:
                stack.enter_context(_TemporaryOutput(self))
            return drive(self, indices, durations)

    def plan(self, indices: Iterable[Any], durations: Sequence[float] | None = None) -> "RunPlan":
        """What a call with these arguments would do now; nothing is locked, changed or built.

        `print` shows it: what is done, left, and set aside, the workers, and how long it will take
        as far as that was measured.

        Args:
            indices: as for the call.
            durations: as for the call.

        Raises:
            ConfigError: if the runner has no `output_dir`.
        """
        from espnet3.parallel.parallel import get_settings
        from espnet3.parallel.run_plan import plan_of

        return plan_of(self, indices, durations, get_settings())

    def parity(
        self, indices: Iterable[Any], durations: Sequence[float] | None = None, n: int = 32
    ) -> "Parity":
        """Do a sample in this process, each item alone and in its batch, and compare the results.

        `print` shows where they differ. Nothing of the run is touched. Floats and arrays are not
        compared: they differ in their last bits wherever sums are added up in another order.

        Args:
            indices: as for the call.
            durations: as for the call; the sample is spread over the lengths.
            n: about how many items; whole batches of the plan are taken, at least one.

        Raises:
            ConfigError: if there is no `batch_size`, or not one result for each item.
        """
        from espnet3.parallel.parallel import get_settings
        from espnet3.parallel.parity import parity_of

        return parity_of(self, indices, durations, n, get_settings())

    def debug(self, idx: Any) -> Any:
        """Do one item in this process, to see why it fails; nothing of the run is touched.

        The env is built here. `forward` and the writer hooks run in a temporary directory, with a
        batch of one if the runner has a `batch_size`. An exception opens a debugger where it was
        raised if this is a terminal, and then passes.

        Args:
            idx: the item, as the call would get it among its indices.

        Returns:
            What `forward` returned.
        """
        from espnet3.parallel.debug_item import debug_item

        return debug_item(self, idx)


class _TemporaryOutput:
    """Gives a runner without `output_dir` a directory for the length of one call."""

    def __init__(self, runner: BaseRunner) -> None:
        if not runner._keeps_json():
            raise ConfigError(
                f"{type(runner).__name__} writes files, so it needs an output_dir to keep them in"
            )
        self._runner = runner

    def __enter__(self) -> None:
        self._runner.output_dir = Path(tempfile.mkdtemp(prefix="espnet3."))

    def __exit__(self, *_: object) -> None:
        directory, self._runner.output_dir = self._runner.output_dir, None
        shutil.rmtree(directory or "", ignore_errors=True)


def concatenate_shard_files(
    shard_dirs: Sequence[Path], relative_name: str, out_path: str | os.PathLike[str]
) -> bool:
    """Concatenate one file of each shard into `out_path`, in one step.

    Args:
        shard_dirs: in the order in which to concatenate.
        relative_name: the file's name below each shard directory; shards without it are skipped.
        out_path: replaced only when the whole content is on disk.

    Returns:
        Whether any shard had the file. If none had, `out_path` is removed.

    Raises:
        DataError: if a shard directory is not there at all; `out_path` stays as it is.
    """
    out = Path(out_path)
    _check_all_there(shard_dirs)
    fragments = [f for d in shard_dirs if (f := Path(d) / relative_name).exists()]
    if not fragments:
        out.unlink(missing_ok=True)
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    from espnet3.utils import durable

    with durable.replacing(out) as target:
        for fragment in fragments:
            with fragment.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
        _check_all_there(shard_dirs)
    return True


def _check_all_there(shard_dirs: Sequence[Path]) -> None:
    gone = [directory for directory in shard_dirs if not Path(directory).is_dir()]
    if gone:
        raise DataError(f"{gone[0]} is gone (and {len(gone) - 1} more); nothing was merged")
