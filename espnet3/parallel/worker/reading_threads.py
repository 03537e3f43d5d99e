"""The threads that read a dataset ahead: one item after the other, until there is no next one."""

import contextvars
import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from espnet3.parallel.engine.marker import READING
from espnet3.parallel.worker.read_items import FAILED
from espnet3.parallel.worker.reading_list import Entry


@dataclass(frozen=True)
class Reader:
    """What each of the threads does.

    Attributes:
        dataset: is read.
        in_turn: gives a context in which this may be done.
        next: waits until something may be read, and says what; None ends the thread.
        put: takes the item, or `FAILED`, and the seconds that it took.
        cells: of the in-flight marker; each thread has one for the unit that it reads for.
    """

    dataset: Any
    in_turn: Callable[[], AbstractContextManager[Any]]
    next: Callable[[memoryview], Entry | None]
    put: Callable[[Entry, Any, float], None]
    cells: memoryview

    def threads(self, n: int) -> list[threading.Thread]:
        """So many threads that are to be started; they have the context of this one."""
        return [
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(self._work, READING + i, _grad_mode()),
                name=f"reads ahead {i}",
                daemon=True,
            )
            for i in range(n)
        ]

    def _work(self, cell: int, grad_mode: "bool | None") -> None:
        if grad_mode is not None:
            sys.modules["torch"].set_grad_enabled(grad_mode)
        pid, cells = os.getpid(), self.cells
        while (entry := self.next(cells)) is not None:
            began = perf_counter()
            try:
                with self.in_turn():
                    began = perf_counter()
                    cells[cell] = entry.unit + 1
                    item = self.dataset[entry.index]
            except BaseException:  # `forward` reads it again, and is told at first hand
                if os.getpid() != pid:
                    os._exit(1)  # a child that the dataset forked must not go on in here
                item = FAILED
            finally:
                cells[cell] = 0
            self.put(entry, item, perf_counter() - began)
            del item  # it is `forward`'s to hold


def _grad_mode() -> "bool | None":
    """Whether torch keeps gradients in this thread; None if it is not in use."""
    torch = sys.modules.get("torch")
    return torch.is_grad_enabled() if torch is not None else None
