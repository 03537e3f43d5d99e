"""What befalls a run directory between two starts: torn, stray and foreign files."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from espnet3.parallel.engine.ledger import find_epochs, ledger_path
from espnet3.parallel.engine.owner import describe_process


@dataclass(frozen=True)
class Damage:
    """What was done.

    Attributes:
        what: in words.
        lost: positions that have to be done again.
        refused: the next start has to end with LedgerError, and `resume: false` is the way on.
        begins_anew: the next start cannot know that there was a run.
        foreign_lock: the next start needs `allow_overwrite_lock`.
    """

    what: str
    lost: set[int] = field(default_factory=set)
    refused: bool = False
    begins_anew: bool = False
    foreign_lock: bool = False


def read_range(directory: Path, run_id: str) -> set[int]:
    """Positions that a directory's `done` commits for this run."""
    try:
        record = json.loads((directory / "done").read_bytes())
        found = record["run_id"], set(range(record["first"], record["last"] + 1))
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return found[1] if found[0] == run_id else set()


def run_id_of(out: Path) -> str:
    """The run that a directory holds; empty if it holds none."""
    try:
        return str(json.loads((out / "manifest.json").read_bytes())["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _shards(out: Path) -> list[Path]:
    return sorted(path.parent for path in out.glob("split.*/done"))


def tear_done(out: Path, rng: random.Random) -> Damage | None:
    """Cut off the `done` of a shard."""
    found = _shards(out)
    if not found:
        return None
    shard = rng.choice(found)
    lost = read_range(shard, run_id_of(out))
    os.truncate(shard / "done", rng.choice([0, (shard / "done").stat().st_size // 2]))
    return Damage(f"the done of {shard.name} is torn", lost)


def remove_shard(out: Path, rng: random.Random) -> Damage | None:
    """Remove the directory of a shard."""
    found = _shards(out)
    if not found:
        return None
    shard = rng.choice(found)
    lost = read_range(shard, run_id_of(out))
    shutil.rmtree(shard)
    return Damage(f"{shard.name} is removed", lost)


def tear_ledger(out: Path, rng: random.Random) -> Damage | None:
    """The newest ledger loses its end, or gets half a line or garbage more."""
    epochs = find_epochs(out)
    if not epochs:
        return None
    path = ledger_path(out, epochs[-1])
    size = path.stat().st_size
    match rng.choice(["half a line", "garbage", "cut off", "empty"]):
        case "cut off":
            size = rng.randrange(size) if size else 0
            os.truncate(path, size)
            return Damage(f"{path.name} is cut off at {size} bytes")
        case "empty":
            os.truncate(path, 0)
            return Damage(f"{path.name} is empty")
        case "half a line":
            more = b'{"kind":"shard","dir":"split.1'
        case _:
            more = rng.randbytes(40) + b"\n"
    with path.open("ab") as f:
        f.write(more)
    return Damage(f"{path.name} ends in {more!r}")


def damage_old_ledger(out: Path, rng: random.Random) -> Damage | None:
    """A line in the middle of what counts is garbage: nobody can go on from there."""
    epochs = find_epochs(out)
    if len(epochs) < 2:
        return None
    try:
        header = json.loads(ledger_path(out, epochs[-1]).read_bytes().splitlines()[0])
    except (ValueError, IndexError):
        return None
    candidates = [e for e in epochs[:-1] if header["older"].get(str(e))]
    if not candidates or header["run_id"] != run_id_of(out):
        return None
    path = ledger_path(out, rng.choice(candidates))
    with path.open("r+b") as f:
        f.write(b"#" * 20)
    return Damage(f"{path.name} is damaged", refused=True)


def damage_manifest(out: Path, rng: random.Random) -> Damage | None:
    """`manifest.json` is empty, half there or something else."""
    path = out / "manifest.json"
    if not path.exists():
        return None
    data = path.read_bytes()
    data = rng.choice([b"", data[: len(data) // 2], b"[]\n", b'{"version": 1}\n'])
    path.write_bytes(data)
    return Damage(f"manifest.json is {data[:20]!r}", refused=True)


def damage_order(out: Path, rng: random.Random) -> Damage | None:
    """What tells the order of the items of a run by length is gone, or is another's."""
    path = out / f"order.{run_id_of(out)}.u32"
    if not path.exists():
        return None
    if rng.random() < 0.5:
        path.unlink()
        return Damage(f"{path.name} is removed", refused=True)
    data = path.read_bytes()
    path.write_bytes(rng.choice([b"", data[:-4], data[-4:] + data[:-4]]))
    return Damage(f"{path.name} is damaged", refused=True)


def remove_manifest(out: Path, rng: random.Random) -> Damage | None:
    """Nothing tells any more which run this was."""
    if not (out / "manifest.json").exists():
        return None
    (out / "manifest.json").unlink()
    return Damage("manifest.json is removed", begins_anew=True)


def foreign_lock(out: Path, rng: random.Random) -> Damage | None:
    """The lock of a process of another host, of none, of another time, or no lock at all."""
    here = describe_process()
    texts = {
        "another host's": json.dumps({**here, "host": "elsewhere", "machine": "another"}),
        "of another boot": json.dumps({**here, "boot": "another"}),
        "of an ended process": json.dumps({**here, "ticks": 1}),
        "garbage": "\0\xff{",
        "half of one": json.dumps(here)[:20],
    }
    what = rng.choice(sorted(texts))
    (out / "lock").write_text(texts[what])
    return Damage(f"the lock is {what}", foreign_lock=what == "another host's")


def leave_attempts(out: Path, rng: random.Random) -> Damage | None:
    """Directories of attempts that were lost, and of another run that was here."""
    run_id = run_id_of(out)
    manifest = out / "manifest.json"
    epoch = max(find_epochs(out), default=0)
    if not run_id or not epoch:
        return None
    width = len(str(json.loads(manifest.read_bytes())["positions"] - 1))
    made = []
    for lease in rng.sample(range(900_000, 999_999), rng.randint(1, 3)):
        first = rng.randrange(10)
        path = out / f"split.1{first:0{width}d}{rng.randint(1, epoch):04d}{lease:06d}"
        path.mkdir(exist_ok=True)
        (path / "text").write_text("utt0 of nobody\n")
        done = rng.choice(["", "", "{", json.dumps({"run_id": "another", "first": 0, "last": 3})])
        if done:
            (path / "done").write_text(done)
        made.append(path.name)
    return Damage(f"left over: {made}")


def leave_strays(out: Path, rng: random.Random) -> Damage | None:
    """Files that are nobody's, under names that come close to ours."""
    names = ["notes.txt", ".text.1.tmp", "ledger.x.jsonl", "ledger.07.jsonl", "split.text"]
    names += [".manifest.json.9.tmp", "split.10000001000001", "manifest.previous.json"]
    for name in rng.sample(names, 3):
        if not (out / name).exists():
            (out / name).write_text("nobody's\n")
    return Damage("stray files")


def remove_logs(out: Path, rng: random.Random) -> Damage | None:
    """`logs/` is gone, and what people read is garbage."""
    shutil.rmtree(out / "logs", ignore_errors=True)
    (out / "failures.jsonl").write_bytes(b"\0garbage")
    (out / "config.yaml").write_bytes(b"{")
    return Damage("logs/ is removed, failures.jsonl and config.yaml are garbage")


HARMLESS: list[Callable[[Path, random.Random], Damage | None]] = [
    tear_done,
    remove_shard,
    tear_ledger,
    tear_ledger,
    tear_ledger,
    foreign_lock,
    leave_attempts,
    leave_strays,
    remove_logs,
]
FATAL = [damage_old_ledger, damage_manifest, damage_manifest, remove_manifest, damage_order]


def vandalise(out: Path, rng: random.Random) -> list[Damage]:
    """Do one or two things to a run directory that nobody works on."""
    if not out.is_dir():
        return []
    acts = rng.sample(HARMLESS, rng.randint(1, 2))
    if rng.random() < 0.2:
        acts.append(rng.choice(FATAL))
    return [damage for act in acts if (damage := act(out, rng))]
