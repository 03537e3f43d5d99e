"""The loop over the units of a lease: mark each, call `forward`, write its record."""

import os
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from espnet3.errors import RecordRejected
from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.marker import Marker, marker_path
from espnet3.parallel.engine.report import OutOfMemory, UnitFailure, text_of
from espnet3.parallel.engine.unit_times import are_kept
from espnet3.parallel.hooks import check_one_per_item
from espnet3.parallel.wording import first_line
from espnet3.parallel.worker.cuda_errors import is_poisoned
from espnet3.parallel.worker.halving import Halving
from espnet3.parallel.worker.inject import select_env
from espnet3.parallel.worker.job import Job
from espnet3.parallel.worker.loading_ahead import LoadingAhead
from espnet3.parallel.worker.memory import comes_of_memory, let_go
from espnet3.parallel.worker.unfinished import UnitUnfinished
from espnet3.parallel.worker.writing_behind import Failed, Unit, WritingBehind

NAMING = 200  # times as long as it took to name a unit, no other is named


@dataclass
class Progress:
    """How far a lease has come: [first, position) is written, failures end it."""

    position: int
    forward_seconds: float
    state: dict[str, Any]
    failure: UnitFailure | None = None
    broken: UnitFailure | None = None
    """The unit whose record left the shard in an unknown state."""
    longest: float = 0.0
    """Seconds of the longest unit."""
    times: "array[float]" = field(default_factory=lambda: array("f"))
    """Seconds of each unit; none in a run that has too many."""
    split: list[tuple[int, int]] = field(default_factory=list)
    """Units that were done in parts."""


class UnitLoop:
    """Does the units of one job's leases in this process, with one env.

    Args:
        job: the run.
        env: what `forward` gets by name, the stand-in for the dataset in it.
        ahead: what reads items ahead, begun by whoever calls; None if nothing does.
        name: of the worker.
        log: its log file, below the run directory; "" if it has none.
        draining: is set when no further unit is to be begun.

    Attributes:
        marker: of the unit in hand.
        cuda_error: the CUDA error after which this process cannot go on; "" as long as it can.

    Raises:
        ConfigError: if `forward` needs something that the env does not have.
    """

    def __init__(
        self,
        job: Job,
        env: Mapping[str, Any],
        ahead: LoadingAhead | None,
        name: str,
        log: str,
        draining: threading.Event,
    ) -> None:
        self.cuda_error = ""
        self._pid = os.getpid()
        self._job = job
        self._env = env
        self._ahead = ahead
        self._log = log
        self._draining = draining
        self._forward = job.runner.forward
        self._forward_env = select_env(self._forward, env, n_given=1)
        self._single = job.plan.batch_size is None
        self._times_are_kept = are_kept(job.plan)
        self._halving: Halving | None = None
        if not self._single and job.runner._gives_one_per_item():
            self._halving = Halving(self._forward, self._forward_env)
        self.marker = Marker(marker_path(job.run_dir, name))

    def run(
        self,
        lease: Lease,
        items: Sequence[Any],
        audio: Sequence[float] | None,
        state: dict[str, Any],
        hook_env: Mapping[str, Any],
    ) -> Progress:
        """Do units of a lease until it ends, its time is over, or one of them fails.

        Args:
            lease: the positions.
            items: the items at those positions.
            audio: seconds of audio in each of them, if known.
            state: of the open writers.
            hook_env: what the hooks get by name.

        Returns:
            How far it came. Exceptions of user code are in it, but for KeyboardInterrupt.
        """
        runner = self._job.runner
        write = runner._writer(batched=not self._single)
        hook_env = select_env(write or runner.reduce_state, hook_env, 3 if write else 2)
        behind = self._behind(lease, state, write, hook_env)
        if behind is None:
            return self._run(lease, items, audio, state, write, hook_env, None)
        with behind:
            progress = self._run(lease, items, audio, state, write, hook_env, behind)
        return progress if behind.failed is None else self._back_at(behind.failed, progress)

    def _behind(
        self,
        lease: Lease,
        state: dict[str, Any],
        write: Callable[..., None] | None,
        hook_env: Mapping[str, Any],
    ) -> WritingBehind | None:
        """What writes behind in a lease, if anything may."""
        if write is None or lease.alone or not lease.may_overlap:
            return None
        writers = state.get("_writers", {})
        set_aside = self._job.runner._set_aside(writers)
        if set_aside is None:
            return None

        def write_later(result: Any) -> None:
            write(writers, result, state, **hook_env)

        return WritingBehind(set_aside, write_later, self.marker.cells)

    def _run(
        self,
        lease: Lease,
        items: Sequence[Any],
        audio: Sequence[float] | None,
        state: dict[str, Any],
        write: Callable[..., None] | None,
        hook_env: Mapping[str, Any],
        behind: WritingBehind | None,
    ) -> Progress:
        writers, fold = state.get("_writers", {}), self._job.runner.reduce_state
        # Names of the loop are local and looked up once: for trivial items this is the time.
        forward, env, cells = self._forward, self._forward_env, self.marker.cells
        plan, is_draining, single = self._job.plan, self._draining.is_set, self._single
        halving = self._halving
        first, position, seconds, longest = lease.first, lease.first, 0.0, 0.0
        times, are_kept = array("f"), self._times_are_kept
        split: list[tuple[int, int]] = []
        now = perf_counter()
        deadline, due = now + lease.seconds, now  # one comparison is for both
        while position < lease.stop and not is_draining():
            if now >= due:
                if now >= deadline and position > first:
                    break
                rest = NAMING * self._enter_name(items[position - first], position)
                due = min(deadline, now + rest)
            if single:
                stop, idx = position + 1, items[position - first]
            else:
                stop = lease.stop if lease.alone else plan.unit_stop(position, lease.stop)
                idx = list(items[position - first : stop - first])
            cells[0] = position + 1
            begin, step = perf_counter(), "forward"
            try:
                if halving is None:
                    result = forward(idx, **env)
                    now = perf_counter()
                else:
                    result = halving.run(idx, audio and audio[position - first : stop - first])
                    now = perf_counter()
                    check_one_per_item(result, stop - position)
                    if halving.in_parts:
                        split.append((position, stop))
                step = "write_record"
                later = None if behind is None else behind.set_aside(result)
                if behind is not None and later is not None:
                    behind.put(Unit(position, stop, idx, seconds, longest, len(times)), later)
                else:
                    if behind is not None:
                        behind.settle()
                    if write is not None:
                        write(writers, result, state, **hook_env)
                    else:
                        state = fold(state, result, **hook_env)
            except KeyboardInterrupt:
                raise
            except UnitUnfinished:
                break
            except BaseException as error:  # sys.exit() in user code must not end the worker
                if os.getpid() != self._pid:
                    os._exit(1)  # a child that user code forked: it must not go on as a worker
                progress = Progress(position, seconds, state, None, None, longest, times, split)
                self._note(progress, error, step, position, stop, idx)
                return progress
            seconds += now - begin
            if now - begin > longest:
                longest = now - begin
            if are_kept:
                times.append(now - begin)
            position = stop
        return Progress(position, seconds, state, None, None, longest, times, split)

    def _back_at(self, failed: Failed, progress: Progress) -> Progress:
        """How far it came, if a unit before could not be written."""
        unit, error = failed
        progress = Progress(
            unit.first,
            unit.seconds,
            progress.state,
            longest=unit.longest,
            times=progress.times[: unit.n_times],
            split=[part for part in progress.split if part[0] < unit.first],
        )
        self._note(progress, error, "write_record", unit.first, unit.stop, unit.idx)
        return progress

    def take_found(self) -> OutOfMemory | None:
        """What was learned of memory since the last call."""
        return None if self._halving is None else self._halving.take_found()

    def name(self, item: Any, position: int) -> str:
        """What people call the unit that begins with that item."""
        return self._utterance(item if self._single else [item], position)

    def look_at(self, error: BaseException) -> None:
        """See whether the process can go on after an exception of user code."""
        if is_poisoned(error) and not self.cuda_error:
            self.cuda_error = f"{type(error).__name__}: {first_line(text_of(error))}"

    def _note(
        self, progress: Progress, error: BaseException, step: str, first: int, stop: int, idx: Any
    ) -> None:
        failure = UnitFailure.of(error, first, stop, self._utterance(idx, first), step, self._log)
        self.look_at(error)
        if comes_of_memory(error):
            let_go(error)
        if step == "forward" or isinstance(error, RecordRejected):
            progress.failure = failure
        else:
            progress.broken = failure

    def _enter_name(self, item: Any, position: int) -> float:
        """Put the name of a unit beside its mark; gives the seconds that this took.

        `utt_id` is the user's code: it may crash, and may be at the files that are read ahead just
        now. Then there is no name; nobody waits for one.
        """
        began = perf_counter()
        self.marker.cells[0] = position + 1
        with self._ahead.turn_if_free() if self._ahead else nullcontext(True) as is_free:
            if is_free:
                self.marker.enter_name(position, self.name(item, position))
        return perf_counter() - began

    def _utterance(self, idx: Any, position: int) -> str:
        if not self._single and not idx:  # user code has emptied its batch
            return f"#{position}"
        index = idx if self._single else idx[0]
        # This is for people; the item may be broken in any way.
        with suppress(Exception, SystemExit):
            utt_id = getattr(self._env.get("dataset"), "utt_id", None)
            if callable(utt_id):
                return str(utt_id(index))
        return str(index) if isinstance(index, str) else f"#{position}"
