"""The driver of a run on workers: takes the hub's events one by one and decides what follows."""

import logging
import math
import queue
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from espnet3.errors import RunStopped
from espnet3.parallel.backends.watch import Watch
from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.events import WAITING
from espnet3.parallel.engine.lease_events import told
from espnet3.parallel.engine.marker import read_marker, remove_marker
from espnet3.parallel.engine.report import LeaseReport
from espnet3.parallel.engine.run import Run
from espnet3.parallel.executors import messages
from espnet3.parallel.executors.gpu_blame import GpuBlame
from espnet3.parallel.executors.headcount import Headcount
from espnet3.parallel.executors.hub import (
    Asked,
    Ended,
    Event,
    Exited,
    Gone,
    Hub,
    Interrupted,
    Joined,
)
from espnet3.parallel.executors.lookout import Lookout
from espnet3.parallel.executors.roll import Roll
from espnet3.parallel.executors.worker_state import Worker
from espnet3.parallel.parallel import in_session
from espnet3.parallel.signals import Interruption
from espnet3.parallel.worker.job import Job
from espnet3.parallel.worker.log import log_name
from espnet3.parallel.worker.nanny import kill_tree
from espnet3.parallel.worker.serve import serve

logger = logging.getLogger(__name__)

SAY_EVERY = 30.0  # seconds between two lines about what is waited for
NO_WORKER_LIMIT = 300.0  # seconds without any worker that end a run on this machine
SAY_FIRST = 8.0  # seconds before the first of them about batch jobs
WATCH_EVERY = 1.0  # seconds between two looks at what is known of batch jobs
TELL_LIMIT = 10.0  # seconds that a nanny has to say how its worker ended; it may be gone, too
TELL_LIMIT_OF_JOBS = 30.0  # the same where a scheduler is asked about the job, once it has ended:
# SGE may say only 15 s later how


@dataclass
class Driver:
    """Takes the events of the hub one by one until the run is over."""

    run: Run
    job: Job
    items: Sequence[Any]
    client: Any
    hub: Hub
    blob: bytes
    interruption: Interruption
    watch: Watch | None = None
    """Of batch jobs, which may wait in a queue for long."""
    start_timeout: float | None = None
    """Seconds without any worker that end the run; None for those that fit the backend."""
    workers: dict[str, Worker] = field(default_factory=dict)
    dying: dict[str, Worker] = field(default_factory=dict)
    """Gone, but nobody has said yet how they ended."""
    lookout: Lookout = field(init=False)
    headcount: Headcount | None = None
    roll: Roll = field(init=False)
    gpu_blame: GpuBlame = field(default_factory=GpuBlame)
    env_built: bool = False
    env_failure: messages.EnvFailed | None = None

    def __post_init__(self) -> None:
        self.lookout = Lookout(self.run, self.client)
        self.roll = Roll(self.run)
        if self.watch is not None:
            self.headcount = Headcount(self.run, self.client, self.watch)

    def work(self) -> None:
        """Serve workers until nothing is out and nothing is left."""
        self.run.events.state(WAITING, "no worker has come yet")
        self._feed()
        limit = self.start_timeout or (NO_WORKER_LIMIT if self.watch is None else math.inf)
        last_seen = last_heard = time.monotonic()
        if self.watch is not None:  # a queue is told of soon, as it may last
            last_heard -= SAY_EVERY - SAY_FIRST
        while not self.run.over:
            now = time.monotonic()
            if self._has_able_workers:
                last_seen = now
            elif self.watch is not None and self.watch.fatal:
                raise RunStopped(self.watch.fatal)
            elif now - last_seen > limit:
                why = f": {self.watch.waited_for()}" if self.watch is not None else ""
                raise RunStopped(f"no worker came within {limit:.0f} s{why}")
            try:
                self._handle(self.hub.inbox.get(timeout=self._patience()))
                last_heard = now
            except queue.Empty:
                if now - last_heard >= SAY_EVERY:
                    last_heard = now
                    self.run.check_owner()
                    self._say_what_is_waited_for()
            self._look_after_workers()
            if self.hub.inbox.empty():
                self.run.flush()
        if self.env_failure is not None and not self.env_built:
            raise self.env_failure.as_exception(self.job.provider)

    def _handle(self, event: Event) -> None:
        match event:
            case Joined():
                self._start(event)
            case Gone(address):
                self._miss(address)
            case Exited():
                self._learn_how_it_ended(event)
            case Ended(address, key):
                worker = self.workers.get(address)
                if worker is not None and not worker.useless and worker.task.key == key:
                    self._give_up(worker, f"worker {worker.name}: {worker.how_its_task_ended()}")
            case Asked(address):
                self._listen(event, self.workers.get(address))
            case Interrupted():
                self.run.stop(self.interruption.reason)
                self.drain()

    def _start(self, joined: Joined) -> None:
        address, name = joined.worker, joined.name
        if address in self.workers:
            return
        process = self.roll.up(joined)
        if why := self.gpu_blame.given_up.get(name):
            self.workers[address] = Worker(None, name, process, useless=why)
            self.roll.useless(self.workers[address], why)
            return
        task = self.client.submit(
            serve,
            self.job.token,
            self.blob,
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        task.add_done_callback(lambda _: self.hub.inbox.put(Ended(address, task.key)))
        doing = f"while {self.job.provider} built its env"
        self.workers[address] = Worker(task, name, process, log=log_name(name), doing=doing)

    def _listen(self, asked: Asked, worker: Worker | None) -> None:
        if worker is None or worker.useless:  # what it did is dealt again
            self.hub.reply(asked, None)
            return
        worker.waiting = asked
        match messages.load_message(asked.message):
            case messages.Hello(name, marker, pid, log) as hello:
                worker.name, worker.marker, worker.pid, worker.log = name, marker, pid, log
                worker.doing, worker.device = "", hello.device
                self.roll.has_env(worker, hello)
                if not self.env_built:
                    self.env_built = True
                    self._say_who_is_given_up(self.workers.values())
            case messages.EnvFailed() as failure:
                self.hub.reply(asked, None)
                self.env_failure = self.env_failure or failure
                what = "" if failure.is_stop else f"{self.job.provider} could not build its env in "
                self._give_up(worker, f"{what}{failure.where}: {failure.error}")
            case LeaseReport() as report:
                worker.lease = None
                self.run.report(report)
                if report.leaving:
                    self.hub.reply(asked, None)
                    remove_marker(worker.marker)
                    del self.workers[asked.worker]
                    self.roll.left(worker, report.cuda_error)
                if why := self.gpu_blame.hear(worker.name, worker.device, report):
                    logger.error("%s; the others go on without it", why)
                self._end_those_to_blame()
        self._feed()

    def _feed(self) -> None:
        """Give leases to those who wait; what came back may be enough for several."""
        for worker in self.workers.values():
            if worker.waiting is None:
                continue
            avoid = self.gpu_blame.units_of(worker.name) if self._has_sound_others(worker) else []
            if avoid and self.gpu_blame.seems_broken(worker.name):
                continue
            lease = self.run.deal(worker.process, avoid=avoid)
            if lease is None and avoid:
                continue
            if lease is None:
                break
            asked, worker.waiting, worker.lease = worker.waiting, None, lease
            self.hub.reply(asked, self._work_of(lease))
        if self.run.stopping:
            self.drain()
        elif self.headcount is not None:
            self.headcount.fit(self.workers)

    def _work_of(self, lease: Lease) -> messages.Work:
        items = self.items[lease.first : lease.stop]
        return messages.Work(lease, items, self.run.seconds_of(lease))

    def _miss(self, address: str) -> None:
        """A worker is gone; unless it was of no use, it matters how it ended."""
        worker = self.workers.pop(address, None)
        if worker is None:
            return
        worker.gone_at = time.monotonic()
        self.roll.gone()
        if worker.useless or worker.status is not None:
            self._bury(worker)
        else:
            self.dying[address] = worker

    def _learn_how_it_ended(self, end: Exited) -> None:
        """Told before a worker of the same name comes in its place."""
        for address, worker in (*self.dying.items(), *self.workers.items()):
            if worker.name == end.name:
                worker.status, worker.stack, worker.how = end.status, end.stack, end.how
                if self.dying.pop(address, None) is not None:
                    self._bury(worker)
                return

    def _bury(self, worker: Worker) -> None:
        self.roll.lost(worker)
        if worker.lease is None:
            if not worker.useless and worker.ended_at is None:
                self.run.lost_idle(worker.death)
        else:
            found = None
            # A nanny that is silent went down with its job: for no item's fault.
            if self.watch is None or worker.status is not None:
                found = read_marker(Path(worker.marker), worker.lease.number)
            if worker.ended_at is None:  # else it is told already
                how = worker.death.how or "died"
                what = told(worker.lease, self.run.order)
                logger.warning("worker %s %s with %s in hand", worker.name, how, what)
            self.run.lost(worker.lease, found, worker.death)
        if worker.marker:
            remove_marker(worker.marker)
        self._feed()

    def _look_after_workers(self) -> None:
        """See to units that take too long; bury those of whom no more is heard."""
        now = time.monotonic()
        limit = TELL_LIMIT if self.watch is None else TELL_LIMIT_OF_JOBS
        for address, worker in list(self.dying.items()):
            if now - worker.gone_at > limit:
                del self.dying[address]
                self._bury(worker)
        self.lookout.look(self.workers)

    def _patience(self) -> float:
        """Seconds until there is something to look at, even if nobody says anything."""
        watching = min(SAY_EVERY, self.lookout.every)
        if self.watch is not None:
            watching = min(watching, WATCH_EVERY)
        elif self.start_timeout is not None:
            watching = min(watching, self.start_timeout)
        return min(watching, TELL_LIMIT) if self.dying else watching

    def _give_up(self, worker: Worker, why: str) -> None:
        """Do without a worker whose process lives; the others go on while there are any."""
        worker.useless, worker.waiting = why, None
        self.roll.useless(worker, why)
        if worker.lease is not None:
            lease, worker.lease = worker.lease, None
            self.run.lost(lease, None, replace(worker.death, how="its task ended"))
        if not self._has_able_workers:
            # The error that ends the run tells the cause; it is to be told once.
            no_env = self.env_failure is not None and not self.env_built
            self.run.stop(f"{self.job.provider} could not build its env" if no_env else why)
        elif self.env_built:  # else all of them will most likely fail alike, and one error will do
            self._say_who_is_given_up([worker])
        self._feed()

    def _end_those_to_blame(self) -> None:
        """Do without idle workers whose GPU is to blame for CUDA errors."""
        for worker in self.workers.values():
            why = self.gpu_blame.given_up.get(worker.name, "")
            if why and worker.lease is None and not worker.useless:
                worker.useless = why
                self.roll.useless(worker, why)
                if worker.waiting is not None:
                    self.hub.reply(worker.waiting, None)
                    worker.waiting = None

    def _say_who_is_given_up(self, workers: Iterable[Worker]) -> None:
        for worker in workers:
            if worker.useless:
                logger.error("%s; the others go on without it", worker.useless)

    @property
    def _has_able_workers(self) -> bool:
        return any(not worker.useless for worker in self.workers.values())

    def _has_sound_others(self, than: Worker) -> bool:
        return any(
            not (worker.useless or worker is than or self.gpu_blame.seems_broken(worker.name))
            for worker in self.workers.values()
        )

    def kill_workers(self) -> None:
        """End the local workers and what they have started, in the middle of whatever they do.

        A worker's number may be another's process here: on its own host it is, or it has died.
        """
        mine = {child.pid for child in psutil.Process().children(recursive=True)}
        for worker in self.workers.values():
            if worker.pid in mine:
                kill_tree(worker.pid)

    def drain(self) -> None:
        """Workers stop before their next unit and commit.

        Nobody waits for their answers: a worker that hangs in C code, or has just died, gives none.
        """
        busy = [address for address, worker in self.workers.items() if worker.lease]
        if busy:
            self.client.loop.add_callback(self._tell_to_drain, busy)

    async def _tell_to_drain(self, workers: list[str]) -> None:
        message = {"op": messages.drain_operation(self.job.token)}
        with suppress(Exception):  # the scheduler is gone, and the workers with it
            await self.client.scheduler.broadcast(msg=message, workers=workers, on_error="ignore")

    def remove_markers(self) -> None:
        """Clean up what only a death makes useful."""
        for worker in (*self.workers.values(), *self.dying.values()):
            if worker.marker:
                remove_marker(worker.marker)

    def _say_what_is_waited_for(self) -> None:
        if not self._has_able_workers:
            why = self.watch.waited_for() if self.watch is not None else "there is none"
            logger.warning("waiting for a worker: %s", why)
            self.run.events.state(WAITING, why)
        elif not any(worker.lease for worker in self.workers.values()):
            n = sum(not (worker.marker or worker.useless) for worker in self.workers.values())
            before = ", or ending what a run before gave them" if in_session() else ""
            if n:
                what = f"building their env ({self.job.provider}){before}"
                who = "worker" if n == 1 else "workers"
                logger.info("waiting for %d %s: %s", n, who, what)
                self.run.events.state(WAITING, f"{n} {who}: {what}")
