"""PositionSet does what a plain set of integers does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from espnet3.parallel.engine.positions import PositionSet

SMALL = st.integers(0, 30)


def members(positions: PositionSet) -> set[int]:
    return {p for first, stop in positions for p in range(first, stop)}


class LikeASet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.positions = PositionSet()
        self.plain: set[int] = set()

    @rule(first=SMALL, stop=SMALL)
    def add(self, first: int, stop: int) -> None:
        self.positions.add(first, stop)
        self.plain |= set(range(first, stop))

    @rule(first=SMALL, stop=SMALL)
    def remove(self, first: int, stop: int) -> None:
        self.positions.remove(first, stop)
        self.plain -= set(range(first, stop))

    @rule(first=SMALL, stop=SMALL)
    def overlaps(self, first: int, stop: int) -> None:
        assert self.positions.overlaps(first, stop) == bool(self.plain & set(range(first, stop)))

    @rule(first=SMALL, stop=SMALL)
    def gaps(self, first: int, stop: int) -> None:
        gaps = list(self.positions.gaps(first, stop))
        assert {p for a, b in gaps for p in range(a, b)} == set(range(first, stop)) - self.plain
        assert are_separate(gaps)

    @rule(position=SMALL)
    def range_at(self, position: int) -> None:
        assert (position in self.positions) == (position in self.plain)
        if position in self.plain:
            first, stop = self.positions.range_at(position)
            assert first <= position < stop
            assert set(range(first, stop)) <= self.plain
            assert not {first - 1, stop} & self.plain
        else:
            with pytest.raises(KeyError):
                self.positions.range_at(position)

    @invariant()
    def same(self) -> None:
        assert members(self.positions) == self.plain
        assert len(self.positions) == len(self.plain)
        assert are_separate(list(self.positions))


def are_separate(ranges: list[tuple[int, int]]) -> bool:
    """Ranges are in order, not empty, and no two of them touch."""
    bounds = [bound for one in ranges for bound in one]
    return all(a < b for a, b in zip(bounds, bounds[1:], strict=False))


TestLikeASet = LikeASet.TestCase
TestLikeASet.settings = settings(max_examples=60, stateful_step_count=30)


@given(st.lists(st.tuples(SMALL, SMALL)))
def test_ranges_given_at_once_are_their_union(ranges: list[tuple[int, int]]) -> None:
    positions = PositionSet(ranges)
    assert members(positions) == {p for first, stop in ranges for p in range(first, stop)}
    assert repr(positions) == f"PositionSet({list(positions)})"


def test_one_piece_costs_one_pair_whatever_its_length() -> None:
    positions = PositionSet([(0, 50_000_000), (50_000_000, 100_000_000)])
    assert list(positions) == [(0, 100_000_000)]
    assert len(positions) == 100_000_000


def test_it_may_be_changed_while_its_ranges_are_read() -> None:
    positions = PositionSet([(0, 2), (4, 6)])
    for first, stop in positions:
        positions.remove(first, stop)
    assert list(positions) == []
