"""One item in this process, outside of any run: what `BaseRunner.debug` does."""

from __future__ import annotations

import faulthandler
import logging
import pdb
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from espnet3.parallel.env_provider import build_local, model_key
from espnet3.parallel.hooks import check_one_per_item
from espnet3.parallel.parallel import in_session
from espnet3.parallel.worker.env import drop_env
from espnet3.parallel.worker.inject import call, select_env

if TYPE_CHECKING:
    from espnet3.parallel.drive import Runner
    from espnet3.parallel.hooks import RunnerHooks

logger = logging.getLogger(__name__)

_KEYS = "`w` shows the calls, `u` and `d` go up and down, `p NAME` shows a variable, `q` leaves"


def debug_item(runner: Runner, item: Any) -> Any:
    """Build the env, and run `forward` and the writer hooks for one item; see `BaseRunner.debug`.

    Raises:
        BaseException: whatever the provider or the runner raises, with a note that says in which
            step of theirs it was.
    """
    with _crashes_are_shown(), tempfile.TemporaryDirectory(prefix="espnet3.debug.") as directory:
        trial = _Trial(cast("type[RunnerHooks]", type(runner)), directory, runner.shard_subdir)
        try:
            drop_env(but_model=model_key(runner.provider))
            trial.use(build_local(runner.provider))
            return trial.run(item, batched=runner.batch_size is not None)
        except BaseException as error:  # also Ctrl-C: it shows where an item hangs
            error.add_note(f"This was in {trial.step}, for {_name(runner, item)}, done alone here.")
            if sys.stdin is not None and sys.stdin.isatty():
                _post_mortem(error)
            raise
        finally:
            trial.close()
            if not in_session():
                drop_env()


class _Trial:
    """A shard of one unit: the steps of a lease, without what makes that safe."""

    def __init__(self, runner: type[RunnerHooks], output_dir: str, shard_subdir: str) -> None:
        self.step = "the provider"
        self._runner = runner
        self._place = {"output_dir": output_dir, "shard_subdir": shard_subdir}
        self._env: dict[str, Any] = {}
        self._state: dict[str, Any] | None = None

    def use(self, env: Mapping[str, Any]) -> None:
        """Give the trial the env; the runner's functions get from it what they get in a run."""
        place = {key: value for key, value in self._place.items() if value}
        self._env = {**place, **env}

    def run(self, item: Any, *, batched: bool) -> Any:
        """Do all steps for one item; return what `forward` gave."""
        runner, hook_env = self._runner, {**self._env, "shard_id": 0}
        self.step = "open_writers"
        begin = {**hook_env, **self._place}
        state = self._state = runner.init_state(**select_env(runner.init_state, begin))
        state["first"] = 0
        self.step = "forward"
        result = call(runner.forward, [item] if batched else item, env=self._env)
        if batched and runner._gives_one_per_item():
            check_one_per_item(result, 1)
        self.step = "write_record"
        write = runner._writer(batched=batched)
        if write is not None:
            call(write, state.get("_writers", {}), result, state, env=hook_env)
        else:
            state = self._state = call(runner.reduce_state, state, result, env=hook_env)
        self.step, self._state = "close_writers", None
        call(runner.finalize_state, state, env=hook_env)
        return result

    def close(self) -> None:
        """Close the writers of a trial that failed."""
        if self._state is not None:
            with suppress(Exception):  # as in a run: only to close files
                call(self._runner.finalize_state, self._state, env={**self._env, "shard_id": 0})


def _name(runner: Runner, item: Any) -> str:
    if runner.name_of is not None:
        with suppress(Exception):  # this is for a message; the item may be broken in any way
            return f"item {item!r} ({runner.name_of(item)})"
    return f"item {item!r}"


@contextmanager
def _crashes_are_shown() -> Iterator[None]:
    """Let a crash in C code print the Python stack, as an item that killed workers may crash."""
    began = False
    if not faulthandler.is_enabled():
        with suppress(Exception):  # no standard error that is a file, as in a notebook
            faulthandler.enable()
            began = True
    try:
        yield
    finally:
        if began:
            faulthandler.disable()


def _post_mortem(error: BaseException) -> None:
    what = "".join(traceback.format_exception_only(error)).rstrip()
    logger.error("%s\nIn the debugger, %s; the traceback follows then.", what, _KEYS)
    pdb.post_mortem(error.__traceback__)
