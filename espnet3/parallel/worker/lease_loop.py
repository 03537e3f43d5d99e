"""Running one lease: open writers, have its units done, close, commit, report."""

import shutil
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet3.errors import OwnershipLost, RunStopped
from espnet3.parallel.engine.coverage import Shard
from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.disk import is_no_items_fault, told
from espnet3.parallel.engine.report import LeaseReport, UnitFailure
from espnet3.parallel.engine.shards import commit, shard_name
from espnet3.parallel.engine.unit_times import to_record
from espnet3.parallel.worker.cuda_errors import is_poisoned, put_down_to_gpu
from espnet3.parallel.worker.inject import call, select_env
from espnet3.parallel.worker.job import Job
from espnet3.parallel.worker.stand_in import with_stand_in
from espnet3.parallel.worker.unfinished import draining_is
from espnet3.parallel.worker.unit_loop import Progress, UnitLoop


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
        self._job = job
        self._env = {
            "output_dir": job.output_dir,
            **({"shard_subdir": job.shard_subdir} if job.shard_subdir else {}),
            **env,
        }
        place = {"output_dir": job.output_dir, "shard_subdir": job.shard_subdir}
        job.runner._check_needs({**self._env, "shard_id": 0}, place)
        self._env, self._ahead = with_stand_in(self._env, job)
        self._units = UnitLoop(job, self._env, self._ahead, name, log, self.draining)
        self._marker = self._units.marker

    @property
    def cuda_error(self) -> str:
        """The CUDA error after which this process cannot go on; "" as long as it can."""
        return self._units.cuda_error

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
            found = self._units.take_found()
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
            progress = self._units.run(lease, items, seconds, state, env)
        cells[0] = 0  # whatever ends the process from here on, no item did it
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

    def _commit(
        self, lease: Lease, items: Sequence[Any], progress: Progress, directory: Path
    ) -> LeaseReport:
        seconds, longest = progress.forward_seconds, progress.longest
        last, split = progress.position - 1, tuple(progress.split)
        shard = Shard(directory.name, lease.first, last, seconds, longest, split)
        units = None
        if progress.times:

            def name_of(position: int) -> str:
                return self._units.name(items[position - lease.first], position)

            units = to_record(progress.times, lease.first, shard.stop, self._job.plan, name_of)
        commit(directory, self._job.run_id, self._job.naming.epoch, shard, units)
        return self._report(lease, progress, shard)

    def _report(self, lease: Lease, progress: Progress, shard: Shard | None = None) -> LeaseReport:
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
        if is_poisoned(cause):
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
        progress: Progress,
        directory: Path,
    ) -> LeaseReport:
        """`close_writers` failed: the shard is halved until the unit stands alone that did it."""
        first, stop = lease.first, progress.position
        self._units.look_at(error)
        if is_no_items_fault(error) or isinstance(error, RunStopped | OwnershipLost):
            return self._fatal(error, lease, directory, "close_writers")
        shutil.rmtree(directory, ignore_errors=True)
        report = self._report(lease, progress)
        unit_stop = stop if lease.alone else self._job.plan.unit_stop(first, stop)
        if unit_stop < stop:
            return replace(report, unclosed=(first, stop))
        name = self._units.name(items[0], first)
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
