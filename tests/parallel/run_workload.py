"""A driver of its own, for tests that end or suspend it: out log n_items parallel."""

import json
import os
import signal
import sys
from itertools import count
from pathlib import Path

from workloads import Lines, Provider

from espnet3.parallel.parallel import set_parallel


def suspend_before(name, number):
    """Stop (SIGSTOP) just before that function of `os` is called for the `number`-th time."""
    function, numbers = getattr(os, name), count(1)

    def stop_and_call(*args):
        if next(numbers) == number:
            os.kill(os.getpid(), signal.SIGSTOP)
        return function(*args)

    setattr(os, name, stop_and_call)


if __name__ == "__main__":
    out, log, n_items, parallel = sys.argv[1:]
    blocks = json.loads(parallel)
    batch_size, durations = blocks.pop("batch_size", None), blocks.pop("durations", None)
    set_parallel(blocks)
    if (suspend := Path(log) / "suspend_before").exists():
        name, number = suspend.read_text().split()
        suspend_before(name, int(number))
    runner = Lines(Provider(log), output_dir=out, batch_size=batch_size)
    runner(range(int(n_items)), durations)
