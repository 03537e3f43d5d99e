"""How much was done when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from espnet3.report.record import RunRecord
from espnet3.report.running_time import RunningTime
from espnet3.report.timeline import spread

MOST_BINS = 200
SHORTEST_BIN = 0.5  # seconds; a bin is not to be finer than what is known about it

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Throughput:
    """Rates over running time.

    Attributes:
        edges: float64 array of shape (bins + 1,), seconds of running time.
        items: float64 array of shape (bins,): items that were committed per second.
        audio: the same in seconds of audio per second; None where the data knows no lengths.
    """

    edges: Array
    items: Array
    audio: Array | None


def throughput(run: RunRecord, time: RunningTime) -> Throughput | None:
    """Rates of a run; what a lease committed counts evenly over its time. None if there is none."""
    leases = [lease for lease in run.leases if lease.done and lease.back is not None]
    if not leases or time.total <= 0:
        return None
    epochs = [lease.epoch for lease in leases]
    starts = time.of(epochs, [lease.dealt for lease in leases])
    stops = time.of(epochs, [lease.back or 0.0 for lease in leases])
    stops = np.maximum(stops, starts + 1e-3)
    done = np.array([lease.done for lease in leases], dtype=np.float64)
    n = int(np.clip(time.total / SHORTEST_BIN, 1, MOST_BINS))
    edges = np.linspace(0.0, time.total, n + 1)
    width = time.total / n
    items = spread(starts, stops, done / (stops - starts), edges) / width
    audio = None
    known = ~np.isnan(run.units.audio)
    if known.any():
        order = np.argsort(run.units.first)
        firsts = run.units.first[order]
        sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(run.units.audio[order]))])
        first = np.array([lease.first for lease in leases])
        stop = first + done.astype(np.int64)
        heard = sums[np.searchsorted(firsts, stop)] - sums[np.searchsorted(firsts, first)]
        audio = np.maximum(0.0, spread(starts, stops, heard / (stops - starts), edges) / width)
    return Throughput(edges, np.maximum(0.0, items), audio)
