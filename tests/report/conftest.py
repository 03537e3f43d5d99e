"""Small real runs, done in this process."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from espnet3.errors import RunFailed
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.parallel import reset_parallel, set_parallel

SLOW = 0.05  # seconds; the other items take microseconds


class Speech:
    """Utterances of one second and more, by ids."""

    def __init__(self, ids):
        self.ids = list(ids)

    def utt_id(self, idx):
        return self.ids[idx]

    def durations(self):
        return [1.0 + idx % 5 for idx in range(len(self.ids))]


class Provider(EnvironmentProvider):
    def build_env_local(self):
        return {"dataset": Speech(self.config["ids"]), "place": self.config["data_dir"]}


class Runner(BaseRunner):
    """Does what `data_dir/<position>` says, which is no part of the run's identity."""

    @staticmethod
    def forward(idx, dataset, place):
        what = Path(place) / str(idx)
        if what.exists():
            misbehave(what.read_text())
        return dataset.utt_id(idx)


def misbehave(what):
    if what == "slow":
        time.sleep(SLOW)
    elif what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        raise ValueError(what)


class Runs:
    """Makes runs below `root`; `ids` are their utterances."""

    def __init__(self, root):
        self.root = root
        self.place = root / "misbehaviour"
        self.place.mkdir()
        self.ids = [f"utt{n:02d}" for n in range(30)]
        self.config = {}

    def misbehave(self, idx, what):
        (self.place / str(idx)).write_text(what)

    def mend(self):
        for path in self.place.iterdir():
            path.unlink()

    def do(self, name="test", **settings):
        """Do a run as far as it goes, and return its directory."""
        set_parallel({"env": "local", "n_workers": 1}, {"lease_seconds": 0.01, **settings})
        provider = Provider({"ids": self.ids, "data_dir": str(self.place), **self.config})
        runner = Runner(provider, output_dir=self.root / "inference", shard_subdir=name)
        with suppress(RunFailed):
            runner(range(len(self.ids)), durations=Speech(self.ids).durations())
        return self.root / "inference" / name

    def do_in_child(self, name="test"):
        """Do it in a process of its own, and wait for its end."""
        pid = os.fork()
        if not pid:
            try:
                self.do(name)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        return self.root / "inference" / name


@pytest.fixture
def runs(tmp_path):
    reset_parallel()
    yield Runs(tmp_path)
    reset_parallel()
