"""A batch that does not fit into memory is done in parts, on the spot.

The limit that is found is remembered, so that later batches are cut before they are tried. It is
forgotten bit by bit, as memory may have been short for another process's sake: after some batches
that were cut, it is doubled. Each time that proves wrong, it stays for twice as many batches, so of
n batches about log2(n) run out of memory.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from espnet3.parallel.engine.report import OutOfMemory
from espnet3.parallel.hooks import check_one_per_item
from espnet3.parallel.worker.device import device_here
from espnet3.parallel.worker.memory import comes_of_memory, let_go

PATIENCE = 8  # batches that are cut before the limit is doubled for the first time
MOST_PATIENCE = 1024


class Halving:
    """Calls `forward` for batches, in halves where memory is short.

    What a batch costs is its items times the seconds of the longest, as if all were padded to it;
    the number of its items where seconds are not known.

    Args:
        forward: takes a list of items, returns one result for each.
        env: what it gets by name.

    Attributes:
        in_parts: whether the last batch was done in several calls.
    """

    def __init__(self, forward: Callable[..., Any], env: Mapping[str, Any]) -> None:
        self.in_parts = False
        self._forward = forward
        self._env = env
        self._too_much: float | None = None
        """So much did not fit, or more than was tried."""
        self._patience = PATIENCE // 2
        self._n_cut = 0
        self._found: OutOfMemory | None = None

    def run(self, items: Sequence[Any], seconds: Sequence[float] | None) -> Any:
        """The results of a batch, one for each item.

        Args:
            items: of the batch. Calls get copies: user code may change its list.
            seconds: of each item, if known.

        Raises:
            Exception: what `forward` raises, but for memory that ran out with several items.
            ConfigError: if a part's results are not one for each item.
        """
        costs = _Costs(len(items), seconds)
        self._grow(costs.of(0, len(items)))
        before = self._too_much
        try:
            results, oom = self._in_parts(list(items), costs)
        except BaseException:
            self._too_much = before  # one item that never fits says nothing about the others
            raise
        if oom is not None:
            self._n_cut, self._patience = 0, min(2 * self._patience, MOST_PATIENCE)
            self._found = oom
        return results

    def take_found(self) -> OutOfMemory | None:
        """What was learned since the last call."""
        found, self._found = self._found, None
        return found

    def _grow(self, cost: float) -> None:
        if self._too_much is None or cost < self._too_much:
            return
        self._n_cut += 1
        if self._n_cut > self._patience:
            self._n_cut, self._too_much = 0, 2 * self._too_much

    def _in_parts(self, items: list[Any], costs: "_Costs") -> tuple[Any, OutOfMemory | None]:
        results: list[Any] = []
        failed: tuple[int, int] | None = None
        fits, n_fits, self.in_parts = 0.0, 0, False
        pending = [(0, len(items))]
        while pending:
            first, stop = pending.pop()
            cost = costs.of(first, stop)
            if stop - first == 1 or self._too_much is None or cost < self._too_much:
                try:
                    part = self._forward(items[first:stop], **self._env)
                except BaseException as error:
                    if stop - first == 1 or not comes_of_memory(error):
                        raise
                    let_go(error)
                else:
                    if stop - first == len(items):
                        return part, None
                    check_one_per_item(part, stop - first)
                    results += part
                    fits, n_fits = max(fits, cost), max(n_fits, stop - first)
                    continue
                self._too_much = cost
                failed = failed or (first, stop)
            self.in_parts = True
            middle = (first + stop) // 2
            pending += [(middle, stop), (first, middle)]
        if failed is None:
            return results, None
        n, cost = failed[1] - failed[0], costs.of(*failed)
        return results, OutOfMemory(n, cost, n_fits, fits, costs.are_seconds, device_here())


class _Costs:
    """What the parts of a batch cost."""

    def __init__(self, n_items: int, seconds: Sequence[float] | None) -> None:
        known = seconds is not None and len(seconds) == n_items and max(seconds, default=0.0) > 0
        self._seconds = seconds if known else None

    @property
    def are_seconds(self) -> bool:
        return self._seconds is not None

    def of(self, first: int, stop: int) -> float:
        longest = 1.0 if self._seconds is None else max(self._seconds[first:stop], default=0.0)
        return (stop - first) * longest
