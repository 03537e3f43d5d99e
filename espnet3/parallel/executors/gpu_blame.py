"""After a CUDA error: was it the unit, or the GPU? Whoever does the unit next will tell."""

from collections import Counter
from dataclasses import dataclass, field

from espnet3.parallel.engine.dealer import Range
from espnet3.parallel.engine.report import LeaseReport

BLAMED = 2  # units that went well elsewhere after a CUDA error: then it is the GPU


@dataclass
class GpuBlame:
    """Units that a CUDA error has ended, with the worker where it was.

    Workers are known by name: a process that is started again has its predecessor's, and its GPU.
    """

    given_up: dict[str, str] = field(default_factory=dict)
    """Names of those whose GPU is to blame, and why."""
    _units: dict[Range, str] = field(default_factory=dict)
    _devices: dict[str, str] = field(default_factory=dict)
    _blame: Counter[str] = field(default_factory=Counter)

    def hear(self, name: str, device: str, report: LeaseReport) -> str:
        """Take a worker's report over.

        Returns:
            Which worker is to be given up now, and why; "" if none is.
        """
        self._devices[name] = device
        culprit = ""
        if report.shard is not None:
            self._blame.pop(name, None)
            done = report.shard
            for unit in [u for u in self._units if done.first <= u[0] and u[1] <= done.stop]:
                where = self._units.pop(unit)
                if where != name:
                    self._blame[where] += 1
                    if self._blame[where] >= BLAMED:
                        culprit = where
        if report.failure is not None:
            self._drop(report.failure.first, report.failure.stop)
        if report.poisoned is not None:
            unit = report.poisoned.first, report.poisoned.stop
            if not self._drop(*unit):  # else it was no better elsewhere
                self._units[unit] = name
        if not culprit or culprit in self.given_up:
            return ""
        device = f" ({self._devices[culprit]})" if self._devices[culprit] else ""
        n = self._blame[culprit]
        self.given_up[culprit] = (
            f"worker {culprit}{device}: {n} units in a row that ended with CUDA errors there went "
            "well elsewhere"
        )
        return self.given_up[culprit]

    def units_of(self, name: str) -> list[Range]:
        """Units that ended with a CUDA error in this worker, and are to be tried elsewhere."""
        return [unit for unit, where in self._units.items() if where == name]

    def seems_broken(self, name: str) -> bool:
        """Whether its GPU is likely to be to blame, so that others had better work meanwhile."""
        return len(self.units_of(name)) >= BLAMED

    def _drop(self, first: int, stop: int) -> bool:
        known = [unit for unit in self._units if unit[0] < stop and first < unit[1]]
        for unit in known:
            del self._units[unit]
        return bool(known)
