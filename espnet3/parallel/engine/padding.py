"""How much of what a batched model computes is padding: every item as long as its batch's longest.

What a batch costs grows with its padded seconds, so batches that pad less are that much faster,
where nothing but the length decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from espnet3.parallel.engine.plan import Plan


@dataclass(frozen=True)
class Padding:
    """Of all batches of a run.

    Attributes:
        n_batches: how many there are.
        audio: seconds of audio in them.
        padded: the same with the padding.
    """

    n_batches: int
    audio: float
    padded: float

    @property
    def share(self) -> float:
        """How much of what is computed is padding, from 0 to 1."""
        return 1 - self.audio / self.padded if self.padded else 0.0


def padding_of(plan: Plan, seconds: Sequence[float]) -> Padding:
    """The padding of all units of a plan.

    Args:
        plan: the units.
        seconds: of every place.
    """
    import numpy as np  # only where durations are known

    lengths = np.asarray(seconds, dtype=np.float64)
    if not len(lengths):
        return Padding(0, 0.0, 0.0)
    if plan.bounds is None:
        firsts = np.arange(0, plan.n_positions, plan.unit_size)
    else:
        firsts = np.array(plan.bounds[:-1], dtype=np.int64)
    sizes = np.diff(firsts, append=plan.n_positions)
    padded = float((np.maximum.reduceat(lengths, firsts) * sizes).sum())
    return Padding(len(firsts), float(lengths.sum()), padded)
