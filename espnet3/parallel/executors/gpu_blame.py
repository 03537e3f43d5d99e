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
    Whether two of a host have the same one can be told by its number only where we have dealt these
    out: in batch jobs each may see its own as number 0.

    Attributes:
        is_shared: workers may share a GPU (`workers_per_gpu`), which all of them have a number for.
    """

    is_shared: bool = False
    _given_up: dict[str, str] = field(default_factory=dict)
    """GPUs that are to blame, and why."""
    _units: dict[Range, str] = field(default_factory=dict)
    _devices: dict[str, str] = field(default_factory=dict)
    _blame: Counter[str] = field(default_factory=Counter)

    def meet(self, name: str, device: str) -> None:
        """Learn which GPU a worker has, in words."""
        self._devices[name] = device

    def hear(self, name: str, report: LeaseReport) -> str:
        """Take a worker's report over.

        Returns:
            Which worker is to be given up now, and why; "" if none is.
        """
        gpu, culprit = self._gpu(name), ""
        if report.shard is not None:
            self._blame.pop(gpu, None)
            done = report.shard
            for unit in [u for u in self._units if done.first <= u[0] and u[1] <= done.stop]:
                where = self._units.pop(unit)
                if (other := self._gpu(where)) != gpu:
                    self._blame[other] += 1
                    if self._blame[other] >= BLAMED:
                        culprit = where
        if report.failure is not None:
            self._drop(report.failure.first, report.failure.stop)
        if report.poisoned is not None:
            unit = report.poisoned.first, report.poisoned.stop
            if not self._drop(*unit):  # else it was no better elsewhere
                self._units[unit] = name
        if not culprit or self.why_given_up(culprit):
            return ""
        gpu, device = self._gpu(culprit), self._devices.get(culprit, "")
        where = f"worker {culprit} ({device})" if device else f"worker {culprit}"
        self._given_up[gpu] = (
            f"{where}: {self._blame[gpu]} units in a row that ended with CUDA errors there went "
            "well elsewhere"
        )
        return self._given_up[gpu]

    def why_given_up(self, name: str) -> str:
        """Why the GPU of a worker is to blame; "" if it is not."""
        return self._given_up.get(self._gpu(name), "")

    def are_together(self, name: str, other: str) -> bool:
        """Whether two workers have the same GPU."""
        return self._gpu(name) == self._gpu(other)

    def units_of(self, name: str) -> list[Range]:
        """Units that ended with a CUDA error on its GPU, and are to be tried elsewhere."""
        return [unit for unit, where in self._units.items() if self.are_together(where, name)]

    def seems_broken(self, name: str) -> bool:
        """Whether its GPU is likely to be to blame, so that others had better work meanwhile."""
        return len(self.units_of(name)) + self._blame[self._gpu(name)] >= BLAMED

    def _gpu(self, name: str) -> str:
        number = self._devices.get(name, "").partition(" (")[0]
        return number if self.is_shared and number else name

    def _drop(self, first: int, stop: int) -> bool:
        known = [unit for unit in self._units if unit[0] < stop and first < unit[1]]
        for unit in known:
            del self._units[unit]
        return bool(known)
