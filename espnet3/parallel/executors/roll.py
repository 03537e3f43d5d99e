"""Who came, who went: told to the event log, and counted for the progress line."""

from espnet3.parallel.engine.run import Run
from espnet3.parallel.engine.tally import Crew
from espnet3.parallel.executors import messages
from espnet3.parallel.executors.hub import Joined
from espnet3.parallel.executors.worker_state import Worker


class Roll:
    """The roll of a run's workers."""

    def __init__(self, run: Run) -> None:
        self._events = run.events
        self._crew = run.tally.crew = Crew()

    def up(self, joined: Joined) -> str:
        """A worker process is there; gives its name with its pid."""
        process = f"{joined.name}.{joined.pid}"
        self._events.tell("worker_up", worker=process, host=joined.host, pid=joined.pid)
        self._crew.up += 1
        return process

    def has_env(self, worker: Worker, hello: messages.Hello) -> None:
        """It has built its env."""
        self._events.tell(
            "env_built",
            worker=worker.process,
            host=hello.host,
            pid=hello.pid,
            job=hello.job or None,
            seconds=hello.env_seconds,
            log=hello.log or None,
        )

    def useless(self, worker: Worker, why: str) -> None:
        """It takes no leases any more, though its process may live."""
        self._events.tell("worker_useless", worker=worker.process, why=why)

    def gone(self) -> None:
        """One is not there any more; how it ended may be known later."""
        self._crew.up -= 1

    def lost(self, worker: Worker) -> None:
        """Now that is known, as far as it will ever be."""
        if worker.lease is None and (worker.sent_home or worker.death.told_to_end):
            self._events.tell("worker_left", worker=worker.process)
            return
        why = worker.death.how or worker.useless
        self._events.tell("worker_lost", worker=worker.process, why=why or None)
        self._crew.lost += 1

    def left(self, worker: Worker, cuda_error: str = "") -> None:
        """It ended in good order; because of a CUDA error if there was one."""
        self._crew.up -= 1
        if cuda_error:
            self._events.tell("worker_lost", worker=worker.process, why=cuda_error)
            self._crew.lost += 1
        else:
            self._events.tell("worker_left", worker=worker.process)
