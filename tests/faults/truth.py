"""The truth about the items of a life, which the product has to find out.

Items are numbered in the order in which they are done. In a life with batches by length that is not
the order in which they are given to the run, and in which their records are published.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

from fragile import tell

KILLING = ("kill", "segv", "leave")
ERRORS = {
    "raise": "ValueError",
    "awkward": "Awkward",
    "exit": "SystemExit",
    "reject": "RecordRejected",
    "break": "KeyError",
    **dict.fromkeys(KILLING, "WorkerKilled"),
    **dict.fromkeys(("hang", "stall"), "UnitTimeout"),
}
"""What an item does wrong at every attempt -> the error it is reported with."""

ONCE = ("raise", *KILLING)
CELL = 8  # the largest batch; all others divide it


@dataclass
class Truth:
    """What each item does wrong.

    Attributes:
        items: in the order in which they are given; with `by_length`, so that it becomes that of
            their numbers.
        by_length: the run has batches by length.
        bad: item -> what it does at every attempt.
        moods: item -> what it does once, or only in a batch.
    """

    items: tuple[int, ...]
    by_length: bool = False
    bad: dict[int, str] = field(default_factory=dict)
    moods: dict[int, str] = field(default_factory=dict)

    @classmethod
    def draw(cls, rng: random.Random) -> "Truth":
        """Draw a corpus with a few bad items, or none."""
        n_items = rng.randint(40, 120)
        truth = cls(tuple(range(n_items)))
        kinds = list(ERRORS)
        positions = rng.sample(range(truth.n_items), 8)
        # Every item that kills is three starts in process, and a hang is a second of waiting.
        dear = (*KILLING, "hang", "stall")
        for position in positions[: rng.choice([0, 0, 1, 2, 3, 4])]:
            cheap = [kind for kind in kinds if kind not in dear]
            has_dear = any(kind in dear for kind in truth.bad.values())
            truth.bad[position] = rng.choice(cheap if has_dear else kinds)
        for position in positions[4 : 4 + rng.choice([0, 0, 1, 2, 4])]:
            moods = [*(f"{kind} once" for kind in ONCE), "memory 1", "memory 2", "memory 4"]
            truth.moods[position] = rng.choice(moods)
        if rng.random() < 0.3:
            truth.items, truth.by_length = tuple(rng.sample(truth.items, n_items)), True
        return truth

    def tell(self, log: Path) -> None:
        """Put it where the workload reads it."""
        for position, what in (self.bad | self.moods).items():
            tell(log, position, what)

    def mend(self, log: Path) -> None:
        """From now on all items are good."""
        for position in self.bad | self.moods:
            tell(log, position, None)

    def near_trouble(self, position: int) -> bool:
        """Whether an item may be done again because of one that shares, or may share, its unit."""
        return any(position // CELL == troubled // CELL for troubled in self.bad | self.moods)

    @property
    def n_items(self) -> int:
        """How many there are."""
        return len(self.items)

    @property
    def hangs(self) -> bool:
        """Whether any item never comes back."""
        return any(ERRORS[kind] == "UnitTimeout" for kind in self.bad.values())

    @property
    def breaks(self) -> bool:
        """Whether any item ruins the shard that it is to be written to."""
        return "break" in self.bad.values()

    def __str__(self) -> str:
        how = "by length" if self.by_length else "by count"
        return (
            f"{self.n_items} items {how}, bad: {self.bad or 'none'}, moody: {self.moods or 'none'}"
        )
