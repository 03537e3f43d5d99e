"""What a run has to do: how many positions, cut into which units."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Positions 0..n_positions-1 and the units they are processed in.

    Units lie on a grid of `batch_size` positions, so a unit depends on the plan alone, never on
    who runs it or where a lease was cut.

    Attributes:
        n_positions: length of `indices`.
        batch_size: positions of one `forward` call, or None for single items.
        limit: only positions below it are to be done now (`--limit`), rounded up to whole units;
            None for all.
    """

    n_positions: int
    batch_size: int | None = None
    limit: int | None = None

    @property
    def goal(self) -> int:
        """Positions [0, goal) are to be done by this call."""
        if self.limit is None:
            return self.n_positions
        return self.align(0, self.limit, self.n_positions)

    @property
    def unit_size(self) -> int:
        """Positions in a whole unit."""
        return self.batch_size or 1

    def unit_stop(self, first: int, stop: int) -> int:
        """Where the unit that begins at `first` ends, inside [first, stop)."""
        return min(stop, (first // self.unit_size + 1) * self.unit_size)

    def on_grid(self, first: int, stop: int) -> bool:
        """Whether [first, stop) is made of whole units."""
        ends = stop % self.unit_size == 0 or stop == self.n_positions
        return first % self.unit_size == 0 and ends

    def align(self, first: int, wanted: int, stop: int) -> int:
        """The end nearest to `wanted` for a lease on [first, stop): whole units, at least one."""
        end = -(-max(wanted, first + 1) // self.unit_size) * self.unit_size
        return min(stop, end)
