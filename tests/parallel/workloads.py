"""Providers and runners of the tests, in a module that worker processes can import.

What they did is noted in files, one line a time, as it happens in several processes. What an item
shall do wrong is told in a file too (`misbehave`), so that mending it changes no run's identity.
"""

import hashlib
import json
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.env_provider import EnvironmentProvider
from espnet3.parallel.in_order import in_order


def note(log, name, value):
    """Append one line, whole whatever other processes append."""
    fd = os.open(Path(log) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(fd, f"{value}\n".encode())
    finally:
        os.close(fd)


def notes(log, name):
    path = Path(log) / name
    return path.read_text().splitlines() if path.exists() else []


def forwards(log):
    """Every item that `forward` was called for, sorted; an item twice if it was done twice."""
    return sorted(int(line.split()[0]) for line in notes(log, "forwards"))


def pids(log):
    """The processes that called `forward`."""
    return {int(line.split()[1]) for line in notes(log, "forwards")}


def forget(log):
    (Path(log) / "forwards").unlink(missing_ok=True)


def tell(log, item, what):
    """Say what an item shall do wrong; None mends it."""
    path = Path(log) / f"item.{item}"
    path.unlink() if what is None else path.write_text(what)


class Awkward(Exception):
    """It can be pickled but not be read again."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def misbehave(log, item):
    path = Path(log) / f"item.{item}"
    if not path.exists():
        return
    match path.read_text():
        case "raise":
            raise ValueError(f"item {item} is bad")
        case "awkward":
            raise Awkward("one", "other")
        case "exit":
            raise SystemExit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill once":
            path.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        case "hold":
            note(log, "held", item)
            while path.exists():
                time.sleep(0.01)
        case "hold a program":
            with subprocess.Popen(["sleep", "300"]) as program:
                note(log, "programs", program.pid)
        case "hold once":  # whoever does it again is not held
            held = path.rename(f"{path}.held")
            note(log, "held", item)
            while held.exists():
                time.sleep(0.01)


class Dataset:
    def __len__(self):
        return 1_000

    def __getitem__(self, index):
        return {"utt_id": self.utt_id(index), "speech": index}

    def utt_id(self, index):
        return f"utt{index}"


def model(speech):
    return hashlib.sha256(str(speech).encode()).hexdigest()[: 1 + speech % 64]


class Provider(EnvironmentProvider):
    """An env of a dataset, a model, and all that it is given."""

    def __init__(self, log, **env):
        super().__init__({"log": str(log), **env})

    def build_env_local(self):
        note(self.config["log"], "builds", os.getpid())
        return {"dataset": Dataset(), "model": model, **self.config}


class Squares(BaseRunner):
    """No hooks: JSON results."""

    @staticmethod
    def forward(idx, log):
        items = idx if isinstance(idx, list) else [idx]
        for item in items:
            note(log, "forwards", f"{item} {os.getpid()}")
        for item in items:
            misbehave(log, item)
        squares = [item * item for item in items]
        return squares if isinstance(idx, list) else squares[0]


class Lines(BaseRunner):
    """Hooks in ESPnet3's way, for single items and batches."""

    per_item_output = True

    @staticmethod
    def forward(idx, dataset, model, log, **env):
        if isinstance(idx, list):
            return [Lines.forward(item, dataset, model, log) for item in idx]
        note(log, "forwards", f"{idx} {os.getpid()}")
        misbehave(log, idx)
        return {"utt_id": dataset[idx]["utt_id"], "text": model(dataset[idx]["speech"])}

    @staticmethod
    def open_writers(shard_dir, **env):
        return {"text": (shard_dir / "text").open("w", encoding="utf-8")}

    @staticmethod
    def write_record(writers, result, state, **env):
        for record in result if isinstance(result, list) else [result]:
            writers["text"].write(f"{record['utt_id']} {record['text']}\n")
            state["records"].append(record["utt_id"])

    @staticmethod
    def close_writers(writers, state, **env):
        writers["text"].close()
        shard_dir = Path(state["shard_dir"])
        lines = (shard_dir / "text").read_text(encoding="utf-8").splitlines()
        if [line.split()[0] for line in lines] != state["records"]:
            raise RuntimeError("state['records'] does not go with the file")
        (shard_dir / "ids").write_text("".join(f"{utt}\n" for utt in state["records"]))
        return {"n_records": len(lines)}

    def merge(self, shard_dirs):
        ordered = sorted(shard_dirs, key=lambda path: int(path.name.split(".")[1]))
        if ordered != list(shard_dirs):
            raise RuntimeError(f"not in order: {shard_dirs}")
        for name in ("text", "ids"):
            lines = in_order(ordered, partial(_lines_of_shard, name=name))
            (self.run_dir / name).write_text("".join(lines), encoding="utf-8")
        note(self.provider.config["log"], "merges", len(shard_dirs))
        return (self.run_dir / "text").read_bytes() + (self.run_dir / "ids").read_bytes()


def _lines_of_shard(shard_dir, name):
    with (shard_dir / name).open(encoding="utf-8") as lines:
        yield from lines


def lines_of(items):
    """What `Lines` merges for these items."""
    items = list(items)
    text = "".join(f"utt{i} {model(i)}\n" for i in items)
    return (text + "".join(f"utt{i}\n" for i in items)).encode()


class Totals(BaseRunner):
    """Overrides the reducer methods, and `forward` as a class method."""

    scale = 3

    @classmethod
    def forward(cls, idx, dataset, model, **env):
        return cls.scale * dataset[idx]["speech"]

    @classmethod
    def init_state(cls, shard_id=0, output_dir="", shard_subdir="", **env):
        state = super().init_state(
            shard_id=shard_id, output_dir=output_dir, shard_subdir=shard_subdir, **env
        )
        state["total"] = 0
        return state

    @classmethod
    def reduce_state(cls, state, result, **env):
        state["total"] += result
        return super().reduce_state(state, result, **env)

    @classmethod
    def finalize_state(cls, state, **env):
        state = super().finalize_state(state, **env)
        totals = {"total": state["total"], "n": len(state["records"])}
        (Path(state["shard_dir"]) / "total.json").write_text(json.dumps(totals))
        return state

    def merge(self, shard_dirs):
        totals = [json.loads((path / "total.json").read_text()) for path in shard_dirs]
        return sum(t["total"] for t in totals), sum(t["n"] for t in totals)


class PlaceInEnv(BaseRunner):
    """Keeps what each hook is told about its place."""

    @staticmethod
    def forward(idx, output_dir, shard_subdir, **env):
        return {"forward": [output_dir, shard_subdir]}

    @staticmethod
    def open_writers(shard_dir, shard_id, output_dir, shard_subdir, **env):
        if Path(output_dir) / shard_subdir / f"split.{shard_id}" != shard_dir:
            raise RuntimeError(f"{output_dir} {shard_subdir} {shard_id} is not {shard_dir}")
        return {"place": (shard_dir / "place").open("w")}

    @staticmethod
    def write_record(writers, result, state, shard_id, output_dir, shard_subdir, **env):
        if state["shard_id"] != shard_id or not isinstance(shard_id, int):
            raise RuntimeError(f"{state['shard_id']!r} is not {shard_id!r}")
        writers["place"].write(json.dumps({**result, "write": [output_dir, shard_subdir]}) + "\n")

    def merge(self, shard_dirs):
        return [json.loads(x) for d in shard_dirs for x in (d / "place").read_text().splitlines()]


class ByNameOnly(BaseRunner):
    """Methods that name what they take, without `**env`."""

    @staticmethod
    def forward(idx, model):
        return model(idx)

    @staticmethod
    def open_writers(shard_dir):
        return {"text": (shard_dir / "text").open("w")}

    @staticmethod
    def write_record(writers, result, state, prefix):
        writers["text"].write(f"{prefix}{result}\n")

    @staticmethod
    def close_writers(writers, state):
        writers["text"].close()

    @classmethod
    def finalize_state(cls, state, dataset):
        state = super().finalize_state(state)
        (Path(state["shard_dir"]) / "size").write_text(str(len(dataset)))
        return state

    def merge(self, shard_dirs):
        assert all((d / "size").read_text() == "1000" for d in shard_dirs)
        return "".join((d / "text").read_text() for d in shard_dirs)


class NeedsMore(Squares):
    @staticmethod
    def forward(idx, log, tokenizer):
        return Squares.forward(idx, log)
