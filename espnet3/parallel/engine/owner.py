"""Who owns a run directory: what a lock file says of its owner, and what can be told from it here.

A pid says something only together with the boot and the pid namespace that it was given in, and
with the start time of its process: numbers are given again.
"""

import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet3.parallel.engine.files import LOCK
from espnet3.utils.masking import mask_argument

Owner = Mapping[str, Any]
LONGEST_RECORD = 4096
BEAT_AT, BEAT_WIDTH = len('{"beat":'), 12


def describe_process() -> dict[str, Any]:
    """Host, pid, start and command of this process, for people and drivers that meet its lock."""
    return {
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "ticks": _start_ticks(os.getpid()),
        "boot": _read_line("/proc/sys/kernel/random/boot_id"),
        "machine": _machine(),
        "pid_ns": _pid_namespace(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(mask_argument(a) for a in sys.argv)[:500],
    }


def encode(owner: Owner) -> bytes:
    """A record for the lock file; its heartbeat can be counted up in place (see `encode_beat`)."""
    rest = json.dumps(dict(owner))
    return b'{"beat":' + encode_beat(0) + b", " + rest[1:].encode() + b"\n"


def encode_beat(beat: int) -> bytes:
    """The bytes that stand at `BEAT_AT` of a record."""
    return f"{beat:{BEAT_WIDTH}d}".encode()


def decode(data: bytes) -> Owner:
    """The owner in a lock file; nobody if there is none, or nothing that can be read."""
    try:
        owner = json.loads(data.split(b"\n")[0])
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) and "host" in owner else {}


def read_owner(run_dir: Path) -> tuple[Owner, float | None]:
    """What the lock says, and when (unix seconds) it was last written to; nobody if it is empty."""
    try:
        with (run_dir / LOCK).open("rb") as lock:
            return decode(lock.read(LONGEST_RECORD)), os.fstat(lock.fileno()).st_mtime
    except OSError:
        return {}, None


def without_beat(owner: Owner) -> Owner:
    """The owner alone, to tell whether two records are of the same one."""
    return {key: value for key, value in owner.items() if key != "beat"}


def is_this_process(owner: Owner, here: Owner) -> bool:
    """Whether another call of this very process is the owner."""
    keys = ("host", "pid", "ticks", "boot", "pid_ns")
    return all(owner.get(key) == here[key] for key in keys)


def is_on_this_host(owner: Owner, here: Owner) -> bool:
    """Whether the owner's life can be judged here: two machines may well have the same name."""
    if owner.get("host") != here["host"]:
        return False
    machine: str = here["machine"]
    is_this_machine = machine != "" and owner.get("machine") == machine
    return is_this_machine or bool(owner.get("boot") == here["boot"])


def has_pid_here(owner: Owner, here: Owner) -> bool:
    """Whether the pid of an owner on this host means what it means here."""
    return all(owner.get(key) == here[key] for key in ("boot", "pid_ns"))


def is_dead(owner: Owner, here: Owner) -> bool:
    """Whether the owner was on this host and has ended; its pid may have been given to another."""
    if not is_on_this_host(owner, here):
        return False
    if owner.get("boot") != here["boot"]:
        return True
    if not has_pid_here(owner, here) or not isinstance(owner.get("pid"), int):
        return False
    return _start_ticks(owner["pid"]) != owner.get("ticks") or _is_zombie(owner["pid"])


def who(owner: Owner) -> str:
    """The owner in a few words."""
    return (
        f"pid {owner.get('pid')} on {owner.get('host')} since {owner.get('started')} "
        f"({owner.get('command')})"
    )


def in_use(run_dir: Path, owner: Owner, here: Owner) -> str:
    """Why this process cannot have the run, and how to look at the one that has it."""
    if not owner:
        return (
            f"{run_dir} is locked by a process that has not written its name into "
            f"{run_dir / 'lock'}; `fuser {run_dir / 'lock'}` may tell its pid."
        )
    if is_this_process(owner, here):
        return f"{run_dir} is in use by another runner call of this process."
    pid = owner.get("pid")
    text = f"{run_dir} is owned by {who(owner)}. Look at it with `ps -p {pid} -f` on that host, "
    if has_pid_here(owner, here) and isinstance(pid, int) and is_suspended(pid):
        return (
            f"{text}where it is suspended: `kill -CONT {pid}` lets it go on, and `run: "
            "{allow_overwrite_lock: true}` takes the run away from it."
        )
    return f"{text}or wait for its end."


def _start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None if there is no such process."""
    try:
        return int(_stat_fields(pid)[19])
    except (OSError, ValueError, IndexError):
        return None


def is_suspended(pid: int) -> bool:
    """Whether a process was stopped, by Ctrl-Z for example, and has not been let go on."""
    return _state(pid) in ("T", "t")


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and its parent has not asked how, as some containers never do."""
    return _state(pid) in ("Z", "X")


def _state(pid: int) -> str:
    """One letter, as `ps` shows it; "" if there is no such process."""
    try:
        return _stat_fields(pid)[0]
    except (OSError, IndexError):
        return ""


def _stat_fields(pid: int) -> list[str]:
    """Fields of a process's state, from the third on: those behind its name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _read_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _machine() -> str:
    """Tells this machine from others of the same name; hashed, as its id is nobody's business."""
    machine = _read_line("/etc/machine-id")
    return hashlib.sha256(b"espnet3" + machine.encode()).hexdigest()[:12] if machine else ""


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
