"""One unit of the ``infer`` stage on one real worker: which one, and what came of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from espnet3.errors import ConfigError, RunFailed
from espnet3.parallel.base_runner import BaseRunner
from espnet3.parallel.canary import Canary
from espnet3.parallel.config import ParallelConfig, RunConfig, parse_parallel
from espnet3.parallel.run_plan import plan_of
from espnet3.parallel.wording import printable
from espnet3.systems.base.inference import prepare
from espnet3.systems.base.inference_config import InferencePlan, read_config
from espnet3.systems.base.inference_debug import FoundItem, find_item, shown

_TAIL = 15  # lines of a log
Settings = tuple[ParallelConfig, RunConfig]


@dataclass(frozen=True)
class Unit:
    """What is tried.

    Attributes:
        test_set: Its name.
        runner: The test set's.
        positions: Those of one ``forward`` call.
    """

    test_set: str
    runner: Any
    positions: Sequence[int]

    def name_of(self, position: int) -> str:
        """The utterance id, or ``#position`` where the data set knows none."""
        name_of = self.runner.name_of
        return f"#{position}" if name_of is None else str(name_of(position))


class InferenceCanary:
    """A unit, tried in a directory of its own below ``inference_dir``; no run is touched.

    Args:
        config: As for `infer`. It is not changed.
        item: An utterance's id, or ``#position``; None for the first that is not done.

    Raises:
        ConfigError: The config is wrong, or no test set has the item.
    """

    def __init__(self, config: DictConfig, item: str | None = None) -> None:
        self.settings = parse_parallel(config.get("parallel"), config.get("run"))
        plan = read_config(config)
        if not issubclass(plan.runner[0], BaseRunner):
            raise ConfigError(
                f"runner._target_: {plan.runner[0].__name__} is no BaseRunner, so one item of its "
                "alone cannot be done in another directory"
            )
        self.unit = (
            _first_left(config, plan, self.settings)
            if item is None
            else _around(find_item(config, item)[0])
        )
        above = Path(plan.inference_dir).absolute()
        above.mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="canary.", dir=above))
        self._canary = Canary(self.unit.runner, self.unit.positions, self.settings, self.directory)
        self._said: list[str] = []

    def run(self) -> None:
        """Do it.

        Raises:
            RunFailed: An item failed.
            ESPnet3Error: As from `infer`: no worker came, the env could not be built, ...
        """
        try:
            returned = self._canary.run()
        except RunFailed as error:
            raise self._in_the_run(error) from error.__cause__
        self._said = _records(self.unit.runner.run_dir, returned)

    def lines(self) -> list[str]:
        """What was seen, one thing a line, as far as it came."""
        canary, seen = self._canary, self._canary.sighting
        if seen is None:
            return ["no worker began"]
        job = f", job {seen.job}" if seen.job else ""
        lines = [
            f"waited: {max(0.0, seen.came - canary.began):.1f} s before the env was begun",
            f"worker: on {seen.host}, pid {seen.pid}{job}",
        ]
        if seen.env_seconds is not None:
            lines.append(f"env: built in {seen.env_seconds:.1f} s")
        if self._said:
            lines.append(f"forward: {canary.forward_seconds:.3g} s")
        for device, n_bytes in canary.device_memory.items():
            lines.append(f"memory on {device}: {n_bytes / 2**30:.2f} GiB at most")
        return lines + self._said

    def log_tail(self) -> list[str]:
        """The end of what its worker said, which tells of a crash in C code."""
        logs = sorted((self.unit.runner.run_dir / "logs").glob("worker.*.log"))
        text = logs[0].read_text(encoding="utf-8", errors="replace") if logs else ""
        return [printable(line) for line in text.splitlines()[-_TAIL:]]

    def clean(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _in_the_run(self, error: RunFailed) -> RunFailed:
        """The same error, with the items' names and positions in the test set."""
        unit, failures = self.unit, []
        for entry in error.failures:
            position = unit.positions[entry["position"]]
            failures.append({**entry, "position": position, "utterance": unit.name_of(position)})
        first = failures[0]
        more = f" ({len(failures)} of {len(unit.positions)} items failed)" if failures[1:] else ""
        return RunFailed(
            f"the canary failed: {first['utterance']} (position {first['position']}) of test set "
            f"{unit.test_set} in {first['step']}: {first['error']}: {first['message']}{more}",
            failures,
        )


def _first_left(config: DictConfig, plan: InferencePlan, settings: Settings) -> Unit:
    """The first unit that is not done; where all are, the first one."""
    first: Unit | None = None
    for name in plan.test_sets:
        job = prepare(config, plan, name)
        outlook = plan_of(job.runner, range(job.n_items), job.durations, settings).outlook
        units, order = outlook.plan, outlook.order
        for start, stop in outlook.left:
            positions = order.positions(start, units.unit_stop(start, stop))
            return Unit(name, job.runner, list(positions))
        positions = order.positions(0, units.unit_stop(0, job.n_items))
        first = first or Unit(name, job.runner, list(positions))
    if first is None:
        raise ConfigError("dataset.test: must list at least one test set")
    return first


def _around(found: FoundItem) -> Unit:
    return Unit(found.test_set, found.runner, [found.position])


def _records(run_dir: Path, returned: Any) -> list[str]:
    """What was published, one field a line; for another kind of runner, what its call returned."""
    fields = sorted(run_dir.glob("*.scp"))
    if not fields:
        return shown(returned)
    place = str(run_dir) + os.sep
    return [
        f"{path.stem}: {line.partition(' ')[2].replace(place, '')}"
        for path in fields
        for line in path.read_text(encoding="utf-8").split("\n")
        if line
    ]
