"""Datasets that take a while to read, and a runner that uses them; also a driver of its own.

As a script: out log n_items parallel.
"""

import ctypes
import json
import os
import sys
import threading
import time

from workloads import misbehave, note

from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import set_parallel

LONG_ENOUGH = 0.001  # seconds that reading takes, so that it is worth to read ahead


class SlowDataset:
    """Notes each access: item, thread. What an item does wrong is told in files (`read.N`)."""

    def __init__(self, log, n_items=1000):
        self.log = str(log)
        self.n_items = n_items

    def __len__(self):
        return self.n_items

    def __getitem__(self, index):
        note(self.log, "reads", f"{index} {threading.current_thread().name}")
        if isinstance(index, int) and not 0 <= index < self.n_items:
            raise IndexError(f"no item {index}")
        time.sleep(LONG_ENOUGH)
        path = os.path.join(self.log, f"read.{index}")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                how = file.read()
            if how == "hang once":
                os.rename(path, f"{path}.was")
                note(self.log, "hanging", index)
            self.fail(index, how)
        return {"utt_id": self.utt_id(index), "speech": index * 1.5}

    def fail(self, index, how):
        if how == "segv":
            ctypes.string_at(0)
        if how in ("hang", "hang once"):
            time.sleep(300)
        if how == "leave":
            os._exit(7)
        raise OSError(f"item {index} cannot be read")

    def utt_id(self, index):
        return f"utt{index}"


class ThreadSafe(SlowDataset):
    thread_safe = True


class SlowProvider(EnvironmentProvider):
    def __init__(self, log, dataset=SlowDataset, **config):
        super().__init__({"log": str(log), **config})
        self.dataset = dataset

    def build_env_local(self):
        return {"dataset": self.dataset(self.config["log"]), **self.config}


def await_note(log, name, text):
    """Wait until somebody has noted a line that begins so."""
    deadline = time.monotonic() + 60
    path = os.path.join(log, name)
    while time.monotonic() < deadline:
        if os.path.exists(path):
            with open(path, encoding="utf-8") as lines:
                if any(line.startswith(text) for line in lines):
                    return
        time.sleep(0.002)
    raise TimeoutError(f"{text!r} is not in {name}")


class Reads(BaseRunner):
    """Gives what the dataset has; an item may wait until another has been asked for."""

    @staticmethod
    def forward(idx, dataset, log, wait_for=None):
        items = idx if isinstance(idx, list) else [idx]
        read = [dataset[i] for i in items]
        for item in items:
            if wait_for and str(item) in wait_for:
                await_note(log, *wait_for[str(item)])
            note(log, "forwards", f"{item} {os.getpid()}")
            misbehave(log, item)
        results = [[each["utt_id"], each["speech"]] for each in read]
        return results if isinstance(idx, list) else results[0]


def expected(items):
    return [[f"utt{i}", i * 1.5] for i in items]


if __name__ == "__main__":
    out, log, n_items, parallel = sys.argv[1:]
    set_parallel({"prefetch": True, **json.loads(parallel)})
    Reads(SlowProvider(log), output_dir=out)(range(int(n_items)))
