"""Where a worker is: its Python stacks, which it writes to its log when a signal asks for them.

The handler is in C (`faulthandler`), so it answers also while other C code holds the GIL.
"""

import asyncio
import os
import re
import signal
import traceback
from collections.abc import Sequence

DUMP_SIGNAL = signal.SIGRTMIN + 5
"""It has no other meaning: schedulers, terminals and Python itself send none of the real-time ones.
"""
LIMIT = 1.0  # seconds that a worker has to answer
LOOK_EVERY = 0.05  # seconds between two looks at its log
MOST_CALLS = 100  # of one thread that `faulthandler` writes; not each Python says that it cuts
LONGEST = 100_000  # bytes of the log that are read: it may say other things, too

_LOOPS = tuple(os.path.join("worker", name) for name in ("unit_loop.py", "lease_loop.py"))
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x\w+ .*\(most recent call first\):$")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')


async def dump_stack(pid: int, log: str) -> str:
    """Let a worker write the stacks of its threads to its log.

    Args:
        pid: of the worker's process, on this host.
        log: path of its log.

    Returns:
        The stack of the unit that it has in hand, formatted like a traceback, from the user's
        function on; "" if it did not answer.
    """
    stacks: list[list[str]] = []
    try:
        before = os.stat(log).st_size
        os.kill(pid, DUMP_SIGNAL)
        for _ in range(round(LIMIT / LOOK_EVERY)):
            await asyncio.sleep(LOOK_EVERY)
            with open(log, "rb") as file:
                file.seek(before)
                stacks = _threads(file.read(LONGEST).decode(errors="replace"))
            if stack := _unit_stack(stacks[:-1]):  # the last one may not be complete yet
                return stack
    except OSError:  # the log was removed, or the worker has died
        pass
    return _unit_stack(stacks)


def _unit_stack(threads: Sequence[Sequence[str]]) -> str:
    """The stack of the thread that does a lease, most recent call last."""
    for thread in threads:
        calls = [match.groups() for line in thread if (match := _FRAME.match(line))]
        inner = next((i for i, call in enumerate(calls) if call[0].endswith(_LOOPS)), None)
        # Of a very deep stack the outer calls are left out; only `forward` can be so deep.
        if inner is None and len(calls) < MOST_CALLS:
            continue
        frames = [(file, int(line), name, None) for file, line, name in reversed(calls[:inner])]
        cut = "  ...\n" if inner is None else ""
        return f"Stack (most recent call last):\n{cut}{''.join(traceback.format_list(frames))}"
    return ""


def _threads(dump: str) -> list[list[str]]:
    """The lines of each thread; the main one, which takes the signal, comes last."""
    threads: list[list[str]] = []
    for line in dump.splitlines():
        if _THREAD.match(line):
            threads.append([])
        elif threads:
            threads[-1].append(line)
    return threads
