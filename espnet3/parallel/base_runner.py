"""Runners: one static `forward(idx, **env)`, and how its results are written and merged."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from espnet3.errors import ConfigError
from espnet3.parallel import results
from espnet3.parallel.worker.inject import call

logger = logging.getLogger(__name__)

_WRITER_HOOKS = (
    "open_writers", "write_record", "close_writers",
    "init_state", "reduce_state", "finalize_state",
)  # fmt: skip


class BaseRunner:
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
        ConfigError: if `batch_size` is not a positive integer.
    """

    per_item_output: ClassVar[bool] = False
    """A batch's `forward` returns a list with one result for each of its items."""

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
        self.provider = provider
        self.batch_size = batch_size
        self.output_dir = Path(output_dir) if output_dir is not None else None
        self.shard_subdir = shard_subdir or ""
        self.resume = resume

    @staticmethod
    def forward(idx: Any, **env: Any) -> Any:
        """Compute the result of one item, or of a list of items with `batch_size`.

        Args:
            idx: the item (most often a dataset index), or a list of them.
            **env: the entries of the provider's env that the signature names.
        """
        raise NotImplementedError("a runner implements forward(idx, ...)")

    @staticmethod
    def open_writers(shard_dir: Path, **env: Any) -> dict[str, Any]:
        """Open what one shard is written to; called in the worker before the first unit."""
        return {}

    @staticmethod
    def write_record(
        writers: dict[str, Any], result: Any, state: dict[str, Any], **env: Any
    ) -> None:
        """Write what `forward` returned for one unit.

        Raise `RecordRejected` before anything of the record is written to lose that unit alone;
        after any other exception the whole shard is thrown away and done again.

        Args:
            writers: what `open_writers` returned.
            result: what `forward` returned.
            state: of this shard: `shard_id`, `shard_dir`, `first` (position), `records`.
            **env: the entries of the env that the signature names.
        """
        state.setdefault("records", []).append(result)

    @staticmethod
    def close_writers(
        writers: dict[str, Any], state: dict[str, Any], **env: Any
    ) -> dict[str, Any] | None:
        """Close the shard's files; whatever lies in `shard_dir` afterwards is its result."""
        for writer in writers.values():
            close = getattr(writer, "close", None)
            if callable(close):
                close()
        return None

    @classmethod
    def init_state(
        cls, shard_id: int = 0, output_dir: str = "", shard_subdir: str = "", **env: Any
    ) -> dict[str, Any]:
        """Make the shard's directory, open its writers, and return its state."""
        shard_dir = Path(output_dir) / shard_subdir / f"split.{shard_id}"
        shard_dir.mkdir(parents=True, exist_ok=True)
        if cls._keeps_json():
            writers: dict[str, Any] = results.open_results(shard_dir)
        else:
            place = {"shard_id": shard_id, "output_dir": output_dir, "shard_subdir": shard_subdir}
            writers = call(cls.open_writers, shard_dir, env={**env, **place})
        return {
            "shard_id": shard_id,
            "shard_dir": str(shard_dir),
            "_writers": writers,
            "records": [],
        }

    @classmethod
    def reduce_state(cls, state: dict[str, Any], result: Any, **env: Any) -> dict[str, Any]:
        """Fold one result into the state of its shard; the default writes it."""
        call(cls.write_record, state["_writers"], result, state, env=env)
        return state

    @classmethod
    def finalize_state(cls, state: dict[str, Any], **env: Any) -> dict[str, Any]:
        """Finish a shard; the default closes its writers."""
        writers = state.pop("_writers", {})
        state.update(call(cls.close_writers, writers, state, env=env) or {})
        return state

    def merge(self, shard_dirs: list[Path]) -> Any:
        """Make the final result; called in the driver when every item is done.

        Called again whenever the runner is called on a finished run, so it must not use the shards
        up. The default returns the JSON results, or None if the runner writes in its own way.

        Args:
            shard_dirs: the shards' directories by position. They cover every position once.
        """
        return results.read_results(shard_dirs) if self._keeps_json() else None

    def identity(self) -> dict[str, Any]:
        """What decides the results, as plain data by key; a change of it refuses to resume.

        The default names the runner, the provider, and every key of the provider's config as it is
        written, but for those that say where things run, are logged or are put.
        """
        from espnet3.parallel.runner_identity import identity_of

        return identity_of(self)

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
            durations: seconds of audio of each item, if known: the longest are then done first.
                They change the order of work alone, never a result.

        Returns:
            What `merge` returns; None if `run.limit` left items to do.

        Raises:
            RunFailed: if items failed (with `on_error: finish` after all others were done).
            RunStopped: if the run could not go on; what was committed is kept.
            RunInUse: if another driver owns the run directory.
            IdentityChanged: if the directory holds a run over other items or with another setup.
            EnvBuildError: if the provider could not build its env.
        """
        from espnet3.parallel.drive import drive

        with ExitStack() as stack:
            if self.output_dir is None:
                stack.enter_context(_TemporaryOutput(self))
            return drive(self, indices, durations)

    @classmethod
    def _keeps_json(cls) -> bool:
        """Whether no hook is overridden that says how results are written."""
        return all(_same(getattr(cls, name), getattr(BaseRunner, name)) for name in _WRITER_HOOKS)

    @classmethod
    def _gives_one_per_item(cls) -> bool:
        """Whether `forward` must return one result for each item of a batch."""
        return cls.per_item_output or cls._keeps_json()

    @classmethod
    def _writer(cls, *, batched: bool) -> Callable[..., None] | None:
        """What writes one result: `write(writers, result, state, **env)`.

        None if the class folds results into its state in its own way (`reduce_state`).
        """
        if cls._keeps_json():
            return results.write_results if batched else results.write_result
        own_fold = not _same(cls.reduce_state, BaseRunner.reduce_state)
        return None if own_fold else cls.write_record


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


def _same(one: Any, other: Any) -> bool:
    return getattr(one, "__func__", one) is getattr(other, "__func__", other)


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
    """
    out = Path(out_path)
    fragments = [f for d in shard_dirs if (f := Path(d) / relative_name).exists()]
    if not fragments:
        out.unlink(missing_ok=True)
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as target:
            for fragment in fragments:
                with fragment.open("rb") as source:
                    shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True
