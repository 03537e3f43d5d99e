"""What a runner class says: how one unit is computed, and how results are written.

All of it is static or class methods, as workers have the class and never the instance. Nothing is
ever passed for `*args`: with it, type checkers let a subclass name just the entries that it takes.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from espnet3.errors import ConfigError
from espnet3.parallel import results
from espnet3.parallel.engine.files import SHARD
from espnet3.parallel.worker.inject import call, check_given, select_env

_GIVEN: dict[str, Sequence[str]] = {
    "forward": ("idx",),
    "open_writers": ("shard_dir",),
    "write_record": ("writers", "result", "state"),
    "close_writers": ("writers", "state"),
    "init_state": (),
    "reduce_state": ("state", "result"),
    "finalize_state": ("state",),
}
"""Every hook, with what it is given by position."""

WRITER_HOOKS = [name for name in _GIVEN if name != "forward"]
_CALLED_BY = {
    "init_state": "open_writers",
    "reduce_state": "write_record",
    "finalize_state": "close_writers",
}
"""A reducer method, and the writer hook that its default calls."""


class RunnerHooks:
    """The part of a runner that runs in workers; see `BaseRunner`."""

    per_item_output: ClassVar[bool] = False
    """A batch's `forward` returns a list with one result for each of its items.

    Then batches may be by length, which changes the order of work and the batches, never what a
    merge makes of it. A class that overrides `merge` or a writer hook as well, and says it itself,
    puts the records of a shard back with `in_order`.
    """

    _by_count_because: ClassVar[str] = ""
    """Why batches are by count all the same; "" if they need not be."""

    @staticmethod
    def forward(idx: Any, *args: Any, **env: Any) -> Any:
        """Compute the result of one item, or of a list of items with `batch_size`.

        Args:
            idx: the item (most often a dataset index), or a list of them.
            **env: the entries of the provider's env that the signature names.
        """
        raise NotImplementedError("a runner implements forward(idx, ...)")

    @staticmethod
    def open_writers(shard_dir: Path, *args: Any, **env: Any) -> dict[str, Any]:
        """Open what one shard is written to; called in the worker before the first unit."""
        return {}

    @staticmethod
    def write_record(
        writers: dict[str, Any], result: Any, state: dict[str, Any], *args: Any, **env: Any
    ) -> None:
        """Write what `forward` returned for one unit.

        Raise `RecordRejected` before anything of the record is written to lose that unit alone;
        after any other exception the whole shard is thrown away and done again.

        Args:
            writers: what `open_writers` returned.
            result: what `forward` returned.
            state: of this shard: `shard_id`, `shard_dir`, `first` (place), `records`.
            **env: the entries of the env that the signature names.
        """
        state.setdefault("records", []).append(result)

    @staticmethod
    def close_writers(
        writers: dict[str, Any], state: dict[str, Any], *args: Any, **env: Any
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
        shard_dir = Path(output_dir) / shard_subdir / f"{SHARD}{shard_id}"
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

    @classmethod
    def _check_methods(cls) -> None:
        """Check what can be said of the hooks where no env is.

        Raises:
            ConfigError: one takes `self`, or does not take what it is given.
        """
        for name, given in _GIVEN.items():
            if inspect.isfunction(inspect.getattr_static(cls, name)):
                raise ConfigError(
                    f"{cls.__name__}.{name} must be a @staticmethod or @classmethod: workers "
                    "have the class, not this object"
                )
            check_given(getattr(cls, name), given)

    @classmethod
    def _check_needs(cls, env: Mapping[str, Any], place: Mapping[str, Any]) -> None:
        """Check that every writer hook that will be called gets all that it needs.

        Args:
            env: what the hooks get by name.
            place: what those that begin a shard get besides.

        Raises:
            ConfigError: naming the first hook and what it lacks.
        """
        own = [n for n in WRITER_HOOKS if not _same(getattr(cls, n), getattr(RunnerHooks, n))]
        for hook, inner in _CALLED_BY.items():
            # What a method of the user's hands on to the hook that it stands for, nobody knows.
            if hook in own and inner in own:
                own.remove(inner)
        for name in own:
            begins = name in ("init_state", "open_writers")
            injected = {**env, **place} if begins else env
            select_env(getattr(cls, name), injected, len(_GIVEN[name]))

    @classmethod
    def _keeps_json(cls) -> bool:
        """Whether no hook is overridden that says how results are written."""
        return cls._writes_as(RunnerHooks)

    @classmethod
    def _writes_as(cls, other: "type[RunnerHooks]") -> bool:
        """Whether results are written by the very hooks of another class."""
        return all(_same(getattr(cls, name), getattr(other, name)) for name in WRITER_HOOKS)

    @classmethod
    def _gives_one_per_item(cls) -> bool:
        """Whether `forward` must return one result for each item of a batch."""
        return cls.per_item_output or cls._keeps_json()

    @classmethod
    def _set_aside(cls, writers: dict[str, Any]) -> Callable[[Any], Any] | None:
        """What makes a result ready to be written behind with these writers.

        It gives what `write_record` can be given later, in another thread, in place of the result;
        None if that is to be written at once. There is none for hooks that are the user's.
        """
        return None

    @classmethod
    def _writer(cls, *, batched: bool) -> Callable[..., None] | None:
        """What writes one result: `write(writers, result, state, **env)`.

        None if the class folds results into its state in its own way (`reduce_state`).
        """
        if cls._keeps_json():
            return results.write_results if batched else results.write_result
        own_fold = not _same(cls.reduce_state, RunnerHooks.reduce_state)
        return None if own_fold else cls.write_record


def check_one_per_item(result: Any, n_items: int) -> None:
    """Check what `forward` returned for a batch, where it must be one result for each item.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(result, (list, tuple)) and len(result) == n_items:
        return
    got = f"{len(result)} results" if isinstance(result, (list, tuple)) else type(result).__name__
    raise ConfigError(
        f"forward returned {got} for a batch of {n_items} items; return a list with one result "
        "for each, or override `open_writers` and `write_record` to keep something else"
    )


def _same(one: Any, other: Any) -> bool:
    return getattr(one, "__func__", one) is getattr(other, "__func__", other)
