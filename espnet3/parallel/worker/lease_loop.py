"""Running one lease: open writers, forward and write every unit, close, commit."""

import logging
import os
import shutil
import threading
from array import array
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from espnet3.errors import OwnershipLost, RecordRejected, RunStopped
from espnet3.parallel.engine.coverage import Shard
from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.disk import is_no_items_fault, told
from espnet3.parallel.engine.marker import Marker, marker_path
from espnet3.parallel.engine.report import LeaseReport, UnitFailure, text_of
from espnet3.parallel.engine.shards import commit, shard_name
from espnet3.parallel.engine.unit_times import are_kept, to_record
from espnet3.parallel.hooks import check_one_per_item
from espnet3.parallel.wording import first_line
from espnet3.parallel.worker.cuda_errors import is_poisoned, put_down_to_gpu
from espnet3.parallel.worker.halving import Halving
from espnet3.parallel.worker.inject import call, select_env
from espnet3.parallel.worker.job import Job
from espnet3.parallel.worker.memory import is_out_of_memory, let_go
from espnet3.parallel.worker.stand_in import with_stand_in
from espnet3.parallel.worker.unfinished import UnitUnfinished, draining_is

logger = logging.getLogger(__name__)

NAMING = 200  # times as long as it took to name a unit, no other is named


@dataclass
class _Progress:
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


class LeaseWorker:
    """Runs leases of one job in this process, with one env.

    Args:
        job: the run.
        env: what the provider built.
        name: of this worker.
        log: its log file, below the run directory; "" if it has none.

    Raises:
        ConfigError: if `forward` or a hook needs something that the env does not have.
    """

    def __init__(self, job: Job, env: Mapping[str, Any], name: str, log: str = "") -> None:
        self.name = name
        self.log = log
        self.draining = threading.Event()
        self.cuda_error = ""
        """The CUDA error after which this process cannot go on."""
        self._pid = os.getpid()
        self._job = job
        self._env = {
            "output_dir": job.output_dir,
            **({"shard_subdir": job.shard_subdir} if job.shard_subdir else {}),
            **env,
        }
        place = {"output_dir": job.output_dir, "shard_subdir": job.shard_subdir}
        job.runner._check_needs({**self._env, "shard_id": 0}, place)
        self._forward = job.runner.forward
        self._env, self._ahead = with_stand_in(self._env, job)
        self._forward_env = select_env(self._forward, self._env, n_given=1)
        self._single = job.plan.batch_size is None
        self._times_are_kept = are_kept(job.plan)
        self._halving: Halving | None = None
        if not self._single and job.runner._gives_one_per_item():
            self._halving = Halving(self._forward, self._forward_env)
        self._marker = Marker(marker_path(job.run_dir, name))

    def run(
        self, lease: Lease, items: Sequence[Any], seconds: Sequence[float] | None = None
    ) -> LeaseReport:
        """Do as much of a lease as its time allows.

        Args:
            lease: the positions.
            items: the items at those positions, `lease.stop - lease.first` of them.
            seconds: of audio in each of them, if known.

        Returns:
            What was committed, what failed, and from where the rest is untouched. Exceptions of
            user code are in the report, they do not leave this function.
        """
        shard_id = self._job.naming.shard_id(lease.first, lease.number)
        directory = self._job.run_dir / shard_name(shard_id)
        if directory.exists():
            raise OwnershipLost(f"{directory} is there already: the run has another owner")
        self._marker.begin_lease(lease.number)
        try:
            with draining_is(self.draining):
                report = self._run(lease, items, seconds, shard_id, directory)
            if self.cuda_error:
                report = put_down_to_gpu(report, self.cuda_error)
            found = self._halving and self._halving.take_found()
            return replace(report, memory=found) if found else report
        finally:
            self._marker.end_lease()

    def n_done_of(self, lease: Lease) -> int:
        """How many positions of the lease in hand are done; another thread may ask."""
        return max(0, self._marker.cells[0] - 1 - lease.first)

    def close(self) -> None:
        """Take the marker away, now that no death of this worker matters any more."""
        self._marker.remove()

    def leave_marked(self, position: int) -> None:
        """Let the next start find the unit that begins there in hand, as after a death."""
        self._marker.cells[0] = position + 1

    def broken_off(self, lease: Lease, error: BaseException) -> LeaseReport:
        """The report of a lease that an interrupt ended; nothing of it counts."""
        shard_id = self._job.naming.shard_id(lease.first, lease.number)
        return self._fatal(error, lease, self._job.run_dir / shard_name(shard_id), "forward")

    def _run(
        self,
        lease: Lease,
        items: Sequence[Any],
        seconds: Sequence[float] | None,
        shard_id: int,
        directory: Path,
    ) -> LeaseReport:
        runner, env = self._job.runner, {**self._env, "shard_id": shard_id}
        try:
            self._check_place()
            state = self._open(shard_id, lease)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return self._fatal(error, lease, directory, "open_writers")
        ahead, cells = self._ahead, self._marker.cells
        with ahead.during(lease, items, cells) if ahead else nullcontext():
            progress = self._run_units(lease, items, seconds, state, env)
        self._marker.cells[0] = 0  # whatever ends the process from here on, no item did it
        if progress.broken is None and progress.position > lease.first:
            try:
                call(runner.finalize_state, progress.state, env=env)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if self.cuda_error:  # it is no fault of these
                    shutil.rmtree(directory, ignore_errors=True)
                    redo = lease.first, progress.position
                    return replace(self._report(lease, progress), redo=redo)
                return self._unclosed(error, lease, items, progress, directory)
            try:
                return self._commit(lease, items, progress, directory)
            except OSError as error:
                return self._fatal(error, lease, directory, "committing")
        with suppress(Exception):  # only to close files; there is nothing in them that counts
            call(runner.finalize_state, progress.state, env=env)
        shutil.rmtree(directory, ignore_errors=True)
        if progress.broken is None:
            return self._report(lease, progress)
        return self._throw_away(lease, progress.broken, directory)

    def _check_place(self) -> None:
        """Hooks write where the user's path leads from here; that must be the run's directory."""
        given = Path(self._job.output_dir) / self._job.shard_subdir
        if not (given.exists() and given.samefile(self._job.run_dir)):
            raise RunStopped(
                f"worker {self.name} does not see {self._job.run_dir} as {given} from its working "
                f"directory {Path.cwd()}; give output_dir as an absolute path that every worker "
                "sees, and do not change the directory in a provider"
            )

    def _open(self, shard_id: int, lease: Lease) -> dict[str, Any]:
        job = self._job
        env = {**self._env, "shard_id": shard_id, "output_dir": job.output_dir}
        env["shard_subdir"] = job.shard_subdir
        state = job.runner.init_state(**select_env(job.runner.init_state, env))
        state["first"] = lease.first
        return state

    def _run_units(
        self,
        lease: Lease,
        items: Sequence[Any],
        audio: Sequence[float] | None,
        state: dict[str, Any],
        hook_env: Mapping[str, Any],
    ) -> _Progress:
        runner = self._job.runner
        write = runner._writer(batched=not self._single)
        fold = runner.reduce_state
        hook_env = select_env(write, hook_env, 3) if write else select_env(fold, hook_env, 2)
        writers = state.get("_writers", {})
        # Names of the loop are local and looked up once: for trivial items this is the time.
        forward, env, cells = self._forward, self._forward_env, self._marker.cells
        plan, is_draining, single = self._job.plan, self.draining.is_set, self._single
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
                progress = _Progress(position, seconds, state, None, None, longest, times, split)
                self._note(progress, error, step, position, stop, idx)
                return progress
            seconds += now - begin
            if now - begin > longest:
                longest = now - begin
            if are_kept:
                times.append(now - begin)
            position = stop
        return _Progress(position, seconds, state, None, None, longest, times, split)

    def _note(
        self, progress: _Progress, error: BaseException, step: str, first: int, stop: int, idx: Any
    ) -> None:
        failure = UnitFailure.of(error, first, stop, self._utterance(idx, first), step, self.log)
        self._look_at(error)
        if is_out_of_memory(error):
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
        self._marker.cells[0] = position + 1
        with self._ahead.turn_if_free() if self._ahead else nullcontext(True) as is_free:
            if is_free:
                self._marker.enter_name(position, self._name(item, position))
        return perf_counter() - began

    def _name(self, item: Any, position: int) -> str:
        return self._utterance(item if self._single else [item], position)

    def _look_at(self, error: BaseException) -> None:
        if is_poisoned(error) and not self.cuda_error:
            self.cuda_error = f"{type(error).__name__}: {first_line(text_of(error))}"

    def _utterance(self, idx: Any, position: int) -> str:
        if not self._single and not idx:  # user code has emptied its batch
            return f"#{position}"
        index = idx if self._single else idx[0]
        utt_id = getattr(self._env.get("dataset"), "utt_id", None)
        if callable(utt_id):
            # This is for people; the item may be broken in any way.
            with suppress(Exception, SystemExit):
                return str(utt_id(index))
        return str(index) if isinstance(index, str) else f"#{position}"

    def _commit(
        self, lease: Lease, items: Sequence[Any], progress: _Progress, directory: Path
    ) -> LeaseReport:
        seconds, longest = progress.forward_seconds, progress.longest
        last, split = progress.position - 1, tuple(progress.split)
        shard = Shard(directory.name, lease.first, last, seconds, longest, split)
        units = None
        if progress.times:

            def name_of(position: int) -> str:
                return self._name(items[position - lease.first], position)

            units = to_record(progress.times, lease.first, shard.stop, self._job.plan, name_of)
        commit(directory, self._job.run_id, self._job.naming.epoch, shard, units)
        return self._report(lease, progress, shard)

    def _report(self, lease: Lease, progress: _Progress, shard: Shard | None = None) -> LeaseReport:
        failure = progress.failure
        return LeaseReport(
            lease=lease.number,
            next=failure.stop if failure else progress.position,
            shard=shard,
            failure=failure,
            worker=self.name,
        )

    def _throw_away(self, lease: Lease, broken: UnitFailure, directory: Path) -> LeaseReport:
        """The shard is lost: its positions are done again, the unit that broke it alone."""
        cause = broken.exception
        if cause is not None and is_no_items_fault(cause):
            broken = replace(broken, message=told(cause, directory))
            return LeaseReport(lease.number, lease.first, fatal=broken, worker=self.name)
        if self.cuda_error:
            redo = lease.first, broken.first
            return LeaseReport(
                lease.number, broken.stop, redo=redo, failure=broken, worker=self.name
            )
        if broken.first == lease.first:
            return LeaseReport(lease.number, broken.stop, failure=broken, worker=self.name)
        return LeaseReport(
            lease=lease.number,
            next=broken.stop,
            redo=(lease.first, broken.first),
            suspect=(broken.first, broken.stop),
            worker=self.name,
        )

    def _unclosed(
        self,
        error: BaseException,
        lease: Lease,
        items: Sequence[Any],
        progress: _Progress,
        directory: Path,
    ) -> LeaseReport:
        """`close_writers` failed: the shard is halved until the unit stands alone that did it."""
        first, stop = lease.first, progress.position
        self._look_at(error)
        if is_no_items_fault(error) or isinstance(error, RunStopped | OwnershipLost):
            return self._fatal(error, lease, directory, "close_writers")
        shutil.rmtree(directory, ignore_errors=True)
        report = self._report(lease, progress)
        unit_stop = stop if lease.alone else self._job.plan.unit_stop(first, stop)
        if unit_stop < stop:
            return replace(report, unclosed=(first, stop))
        name = self._utterance(items[0] if self._single else items[:1], first)
        failure = UnitFailure.of(error, first, stop, name, "close_writers", self.log)
        # A unit behind it that failed by itself is dealt again; one failure is told at a time.
        return replace(report, next=stop, failure=failure)

    def _fatal(self, error: BaseException, lease: Lease, directory: Path, step: str) -> LeaseReport:
        shutil.rmtree(directory, ignore_errors=True)
        name = f"#{lease.first}"
        failure = UnitFailure.of(error, lease.first, lease.stop, name, step, self.log)
        if is_no_items_fault(error) or (step == "committing" and isinstance(error, OSError)):
            failure = replace(failure, message=told(error, directory))
        return LeaseReport(lease.number, lease.first, fatal=failure, worker=self.name)
