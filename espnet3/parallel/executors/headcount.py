"""As many workers as there is work for: `adaptive`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from espnet3.parallel.backends.watch import Watch
from espnet3.parallel.engine.run import Run
from espnet3.parallel.executors.worker_state import Worker
from espnet3.parallel.worker.nanny import leave


@dataclass
class Headcount:
    """Asks for workers while there is more to do than they can take, and lets go of idle ones."""

    run: Run
    client: Any
    watch: Watch

    def fit(self, workers: Mapping[str, Worker]) -> None:
        """Look at how much is left, and at who waits for it."""
        needed = self.run.n_workers_needed
        self.watch.want(needed)
        wanted = max(needed, self.watch.minimum)
        if len(workers) <= wanted:  # nearly always: this is asked at every report
            return
        staying = {at: worker for at, worker in workers.items() if not worker.sent_home}
        excess = len(staying) - wanted
        idle = [at for at, worker in staying.items() if worker.waiting is not None]
        going = idle[: max(0, excess)]
        if going:
            for at in going:
                workers[at].sent_home = True
            self.client.run(leave, workers=going, nanny=True, wait=False, on_error="ignore")
