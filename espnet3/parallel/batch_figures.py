"""What the batches of a call are like, in words and figures, as its plan tells them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from espnet3.parallel.engine.order import Order
from espnet3.parallel.engine.padding import Padding, padding_of
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.work import Work


@dataclass(frozen=True)
class BatchFigures:
    """What the batches of a call are like.

    Attributes:
        by_length: whether neighbouring items of like length are put together.
        why: why they are by count, where they are; else "".
        batch_seconds: most seconds of a batch, padding included; None for no such bound.
        planned: their padding; None where the data knows no durations.
        by_count: the padding of batches of `batch_size` items in the order given, to compare with.
    """

    by_length: bool
    why: str
    batch_seconds: float | None = None
    planned: Padding | None = None
    by_count: Padding | None = None

    @property
    def by_seconds(self) -> bool:
        """Whether batches end by seconds, too."""
        return self.batch_seconds is not None and self.planned is not None

    @property
    def gain(self) -> float:
        """How many times as fast as by count, where time goes with padded seconds."""
        if self.planned is None or self.by_count is None or not self.planned.padded:
            return 1.0
        return self.by_count.padded / self.planned.padded

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        kind = "by length" if self.by_length else "by count"
        if self.by_seconds:
            kind += f", of at most {self.batch_seconds:g} s with padding"
        yield f"batches: {kind}" + (f", as {self.why}" if self.why else "")
        if self.planned is None or self.by_count is None:
            return
        text = f"padding: {100 * self.planned.share:.1f} %"
        if self.planned != self.by_count:
            text += (
                f"; by count it would be {100 * self.by_count.share:.1f} % in "
                f"{self.by_count.n_batches} batches, so this is about {self.gain:.2f} times as "
                "fast where time goes with length"
            )
        yield text


def batch_figures_of(
    work: Work, plan: Plan, order: Order, why: str, seconds: Sequence[float] | None
) -> BatchFigures | None:
    """Describe the batches of a plan; None if `forward` gets single items.

    Args:
        work: what the call asks for.
        plan: its units.
        order: of the run.
        why: why a run that begins with it has them by count; "" if it has not.
        seconds: the durations by place, if known.
    """
    if work.batch_size is None:
        return None
    if not order and not why:
        why = "the run that is there began so"
    if order:
        why = ""
    if seconds is None or work.durations is None:
        return BatchFigures(bool(order), why)
    by_count = padding_of(work.by_count(), work.durations)
    planned = padding_of(plan, seconds)
    return BatchFigures(bool(order), why, work.batch_seconds, planned, by_count)
