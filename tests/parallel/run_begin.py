"""A driver whose worker processes do as told when they import it: out log n_items parallel."""

import json
import os
import signal
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

from drivers import await_that
from workloads import Lines, Provider, note, notes

from espnet3.parallel.parallel import parallel_session, set_parallel

out, log, n_items, parallel = sys.argv[1:]


class OneIsHeld(Provider):
    """While a file says so, all workers but the first do not get further than this."""

    def build_env_local(self):
        env = super().build_env_local()
        if notes(log, "builds")[0] != str(os.getpid()):
            note(log, "held", os.getpid())
            await_that(lambda: not Path(log, "hold.builds").exists())
        return env


if __name__ == "__mp_main__":  # in a worker
    note(log, "begun", os.getpid())
    for number in (signal.SIGKILL, signal.SIGTERM):
        if Path(log, f"always.{number.name}").exists():
            os.kill(os.getpid(), number)
        with suppress(FileNotFoundError):
            Path(log, f"once.{number.name}").unlink()  # one of the workers can
            os.kill(os.getpid(), number)
    if Path(log, "leave").exists():
        sys.exit(5)
    await_that(lambda: not Path(log, "hold").exists())

if __name__ == "__main__":
    set_parallel(json.loads(parallel))
    session = parallel_session() if Path(log, "session").exists() else nullcontext()
    try:
        with session:
            Lines(OneIsHeld(log), output_dir=out)(range(int(n_items)))
    except KeyboardInterrupt:
        sys.exit(130)
