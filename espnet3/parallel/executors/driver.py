"""The driver of a run on workers: takes the hub's events one by one and decides what follows."""

import logging
import queue
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import psutil  # type: ignore[import-untyped]

from espnet3.parallel.backends.watch import Watch
from espnet3.parallel.engine.dealer import Lease
from espnet3.parallel.engine.events import WAITING
from espnet3.parallel.engine.marker import remove_marker
from espnet3.parallel.engine.report import LeaseReport
from espnet3.parallel.engine.run import Run
from espnet3.parallel.executors import messages
from espnet3.parallel.executors.deaths import Deaths
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
from espnet3.parallel.executors.waiting import Waiting
from espnet3.parallel.executors.worker_state import Worker, any_able
from espnet3.parallel.signals import Interruption
from espnet3.parallel.worker.job import Job
from espnet3.parallel.worker.log import log_name
from espnet3.parallel.worker.nanny import kill_tree
from espnet3.parallel.worker.serve import serve

logger = logging.getLogger(__name__)


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
    deaths: Deaths = field(init=False)
    lookout: Lookout = field(init=False)
    headcount: Headcount | None = None
    roll: Roll = field(init=False)
    gpu_blame: GpuBlame = field(default_factory=GpuBlame)
    env_built: bool = False
    env_failure: messages.EnvFailed | None = None

    def __post_init__(self) -> None:
        self.lookout = Lookout(self.run, self.client)
        self.roll = Roll(self.run)
        self.deaths = Deaths(self.run, self.roll, self.watch is not None, self._feed)
        if self.watch is not None:
            self.headcount = Headcount(self.run, self.client, self.watch)

    def work(self) -> None:
        """Serve workers until nothing is out and nothing is left."""
        self.run.events.state(WAITING, "no worker has come yet")
        self._feed()
        waiting = Waiting(self.run, self.job.provider, self.watch, self.start_timeout)
        while not self.run.over:
            waiting.look(self.workers.values())
            try:
                patience = min(waiting.every, self.lookout.every, self.deaths.every)
                self._handle(self.hub.inbox.get(timeout=patience))
                waiting.heard()
            except queue.Empty:
                waiting.heard_nothing(self.workers.values())
            self.deaths.look()
            self.lookout.look(self.workers)
            if self.hub.inbox.empty():
                self.run.flush()
        if self.env_failure is not None and not self.env_built:
            raise self.env_failure.as_exception(self.job.provider)

    def _handle(self, event: Event) -> None:
        match event:
            case Joined():
                self._start(event)
            case Gone(address):
                if (worker := self.workers.pop(address, None)) is not None:
                    self.deaths.miss(address, worker)
            case Exited():
                self.deaths.learn(event, self.workers)
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
        if why := self.gpu_blame.why_given_up(name):
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
                worker.doing = ""
                self.gpu_blame.meet(name, hello.device)
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
                if why := self.gpu_blame.hear(worker.name, report):
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

    def _give_up(self, worker: Worker, why: str) -> None:
        """Do without a worker whose process lives; the others go on while there are any."""
        worker.useless, worker.waiting = why, None
        self.roll.useless(worker, why)
        if worker.lease is not None:
            lease, worker.lease = worker.lease, None
            self.run.lost(lease, None, replace(worker.death, how="its task ended"))
        if not any_able(self.workers.values()):
            # The error that ends the run tells the cause; it is to be told once.
            no_env = self.env_failure is not None and not self.env_built
            self.run.stop(f"{self.job.provider} could not build its env" if no_env else why)
        elif self.env_built:  # else all of them will most likely fail alike, and one error will do
            self._say_who_is_given_up([worker])
        self._feed()

    def _end_those_to_blame(self) -> None:
        """Do without idle workers whose GPU is to blame for CUDA errors."""
        for worker in self.workers.values():
            why = self.gpu_blame.why_given_up(worker.name)
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

    def _has_sound_others(self, than: Worker) -> bool:
        return any(
            not (
                worker.useless
                or self.gpu_blame.are_together(worker.name, than.name)
                or self.gpu_blame.seems_broken(worker.name)
            )
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
        for worker in (*self.workers.values(), *self.deaths.dying.values()):
            if worker.marker:
                remove_marker(worker.marker)
