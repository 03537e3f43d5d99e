"""What every worker did when: spans of time, their sums, and how they are drawn at any size."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from espnet3.parallel.engine.order import Order
from espnet3.parallel.engine.positions import PositionSet
from espnet3.report.record import LOST, LeaseLife, RunRecord, WorkerLife
from espnet3.report.running_time import RunningTime

WORK, REPEATED, BUILD, WASTED, IDLE = "work", "repeated", "env build", "lost", "idle"
KINDS = (WORK, REPEATED, BUILD, WASTED, IDLE)
"""What a worker can be at. `lost` is work of which nothing was kept; `repeated` is work on items
that were in such a lease before."""

MOST_ROWS = 60  # more rows fit on no screen
CELLS = 600  # a row has no more pixels than that to tell its spans apart
BINS = 240

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """What one worker was at from `start` to `stop`, in running time."""

    kind: str
    start: float
    stop: float
    text: str = ""


@dataclass(frozen=True)
class Row:
    """One worker of one start.

    Attributes:
        label: its name, with its start where there are several.
        spans: by time, without overlap.
        lost: how it died; "" if it did not.
    """

    label: str
    spans: Sequence[Span]
    lost: str = ""

    def seconds(self, kind: str) -> float:
        """Seconds spent on a kind."""
        return sum(span.stop - span.start for span in self.spans if span.kind == kind)


@dataclass(frozen=True)
class Timeline:
    """All rows of a run, by the time at which the workers came."""

    rows: Sequence[Row]
    time: RunningTime

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of all workers together, by kind."""
        return {kind: sum(row.seconds(kind) for row in self.rows) for kind in KINDS}

    @property
    def busy(self) -> float | None:
        """Share of the workers' time that was work (repeated or not); None if there was none."""
        seconds = self.seconds
        total = sum(seconds.values())
        return (seconds[WORK] + seconds[REPEATED]) / total if total > 0 else None


def timeline(run: RunRecord) -> Timeline:
    """The spans of every worker."""
    time = RunningTime(run.starts)
    of_worker = defaultdict(list)
    for work in _all_work(run.leases, time):
        of_worker[work.lease.epoch, work.lease.worker].append(work)
    labels = _labels(run.workers, several_starts=len(run.starts) > 1)
    rows = []
    for worker in sorted(run.workers, key=lambda w: (w.epoch, w.up)):
        label = labels[worker.epoch, worker.name]
        mine = of_worker[worker.epoch, worker.name]
        mine = [work for work in mine if worker.up <= work.lease.dealt <= worker.gone]
        rows.append(Row(label, _spans(worker, mine, time, run.order), worker.lost))
    return Timeline(rows, time)


def _labels(workers: Sequence[WorkerLife], several_starts: bool) -> dict[tuple[int, str], str]:
    """Names without the pid that ends them, unless that tells two workers apart."""
    short = {(w.epoch, w.name): w.name.partition(".")[0] for w in workers}
    n_of = Counter((epoch, name) for (epoch, _), name in short.items())
    labels = {}
    for (epoch, name), label in short.items():
        known = label if n_of[epoch, label] == 1 else name
        labels[epoch, name] = f"{known} (start {epoch})" if several_starts else known
    return labels


class _Work(NamedTuple):
    """A lease in running time; `again` if some of it had been in vain before."""

    lease: LeaseLife
    again: bool
    start: float
    stop: float


def _all_work(leases: Sequence[LeaseLife], time: RunningTime) -> Iterator[_Work]:
    epochs = [lease.epoch for lease in leases]
    starts = time.of(epochs, [lease.dealt for lease in leases]).tolist()
    backs = [math.inf if lease.back is None else lease.back for lease in leases]
    stops = time.of(epochs, backs).tolist()
    in_vain = PositionSet()
    both = zip(backs, leases, strict=True)
    lost = sorted((x for x in both if x[1].outcome == LOST), key=lambda x: -x[0])
    for lease, start, stop in zip(leases, starts, stops, strict=True):
        while lost and lost[-1][0] <= lease.dealt:
            _, before = lost.pop()
            if before.begun > before.first + before.done:
                in_vain.add(before.first + before.done, before.begun)
        yield _Work(lease, in_vain.overlaps(lease.first, lease.stop), start, stop)


def _spans(
    worker: WorkerLife, leases: Sequence[_Work], time: RunningTime, order: Order
) -> list[Span]:
    built = math.inf if worker.built is None else worker.built
    moments = [worker.up, worker.building, min(built, worker.gone), worker.gone]
    up, building, at, gone = time.of([worker.epoch] * 4, moments).tolist()
    spans = [Span(IDLE, up, building, "starting")] if building > up else []
    if at > building:
        spans.append(Span(BUILD, building, at, "building its env"))
    for lease, again, start, stop in leases:
        start, stop = max(start, at), min(stop, gone)
        if stop <= start:
            continue
        if start > at:
            spans.append(Span(IDLE, at, start, "no lease"))
        kind = WASTED if lease.outcome == LOST else REPEATED if again else WORK
        spans.append(Span(kind, start, stop, _told(lease, order)))
        at = stop
    if gone > at:
        spans.append(Span(IDLE, at, gone, "no lease"))
    return spans


def _told(lease: LeaseLife, order: Order) -> str:
    n = lease.stop - lease.first
    if n == 1:
        where = f"item {order.position(lease.first)}"
    else:  # with an order of their own they are no neighbours
        where = f"{n} items" if order else f"items {lease.first} to {lease.stop - 1}"
    if lease.back is None:
        return f"{where}, still out"
    if lease.failed is not None:
        return f"{where}, {lease.done} done, item {order.position(lease.failed)} failed"
    return f"{where}, {lease.done} done" if lease.done < n else where


def at_work(rows: Sequence[Row], total: float, bins: int = BINS) -> dict[str, Array]:
    """How many workers were at what, on average over each of `bins` equal parts of [0, total].

    Returns:
        An array of shape (bins,) for every kind.
    """
    edges = np.linspace(0.0, total, bins + 1)
    found = {}
    for kind in KINDS:
        spans = [span for row in rows for span in row.spans if span.kind == kind]
        starts = np.array([span.start for span in spans])
        stops = np.array([span.stop for span in spans])
        worked = spread(starts, stops, np.ones(len(spans)), edges)
        found[kind] = worked / np.diff(edges) if total > 0 else np.zeros(bins)
    return found


def spread(starts: Array, stops: Array, rates: Array, edges: Array) -> Array:
    """What flows between neighbouring edges where [start, stop) flows at a rate each.

    Args:
        starts: float64 array of shape (n,).
        stops: of the same shape, no smaller.
        rates: of the same shape, per unit of time.
        edges: ascending, of shape (m + 1,).

    Returns:
        Array of shape (m,).
    """

    def until(moments: Array, edges: Array) -> Array:
        order = np.argsort(moments)
        at, rate = moments[order], rates[order]
        n = np.searchsorted(at, edges, side="right")
        sums = np.concatenate([[0.0], np.cumsum(rate)])[n]
        weighted = np.concatenate([[0.0], np.cumsum(rate * at)])[n]
        return np.asarray(sums * edges - weighted)

    return np.asarray(np.diff(until(starts, edges) - until(stops, edges)))


def choose_rows(rows: Sequence[Row], most: int = MOST_ROWS) -> list[Row]:
    """The rows to draw: all, or lost workers, and those with the least and with the most work."""
    if len(rows) <= most:
        return list(rows)
    by_work = sorted(range(len(rows)), key=lambda i: rows[i].seconds(WORK))
    lost = [i for i in by_work if rows[i].lost]
    chosen = dict.fromkeys(lost[: most // 3])
    least, greatest = iter(by_work), iter(reversed(by_work))
    while len(chosen) < most:
        chosen[next(i for i in least if i not in chosen)] = None
        if len(chosen) < most:
            chosen[next(i for i in greatest if i not in chosen)] = None
    return [rows[i] for i in sorted(chosen)]


def coarse(row: Row, total: float, cells: int = CELLS) -> Sequence[Span]:
    """The spans as they can be told apart at `cells` cells of [0, total].

    Each cell shows what took most of it, but one that saw something lost or repeated shows that.
    """
    if len(row.spans) <= cells // 4 or total <= 0:
        return row.spans
    edges = np.linspace(0.0, total, cells + 1)
    seconds = at_work([row], total, cells)
    shares = np.stack([seconds[kind] for kind in KINDS])
    for kind in (REPEATED, WASTED):
        shares[KINDS.index(kind)][shares[KINDS.index(kind)] > 0] += len(KINDS)
    best = np.where(shares.max(axis=0) > 0, shares.argmax(axis=0), -1)
    spans = []
    at = 0
    for index, group in groupby(best.tolist()):
        n = len(list(group))
        if index >= 0:
            spans.append(Span(KINDS[index], edges[at], edges[at + n], "several leases"))
        at += n
    return spans
