"""The order of a run by length, and units cut by padded seconds."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet3.parallel.engine.order import AS_GIVEN, Order
from espnet3.parallel.engine.padding import padding_of
from espnet3.parallel.engine.work import Work

LENGTHS = st.lists(st.floats(0, 40, width=32), min_size=1, max_size=80)


@st.composite
def works(draw: st.DrawFn) -> Work:
    seconds = draw(LENGTHS)
    return Work(
        n_positions=len(seconds),
        batch_size=draw(st.integers(1, 9)),
        limit=draw(st.none() | st.integers(1, 90)),
        durations=seconds,
        batch_seconds=draw(st.none() | st.floats(1, 100)),
        any_order=draw(st.booleans()),
        window=draw(st.integers(1, 30)),
    )


@given(works())
def test_an_order_is_the_longest_first_inside_windows(work: Work) -> None:
    order, seconds = work.new_order(), work.durations or ()
    assert bool(order) is work.any_order
    n = work.n_positions
    positions = [order.position(place) for place in range(n)]
    assert sorted(positions) == [*range(n)]
    assert [order.place(position) for position in positions] == [*range(n)]
    for first, stop in pairwise([0, *order.ends]):
        inside = positions[first:stop]
        assert inside == sorted(range(first, stop), key=lambda p: (-seconds[p], p))
        assert stop - first <= work.window
    if order:
        assert order.ends[-1] == n
        assert work.limit is None or min(work.limit, n) in order.ends
        kept = Order.from_bytes(order.to_bytes(), order.window, order.limit)
        assert [*kept.positions(0, n)] == positions
        assert kept.ends == order.ends
        assert [*order.of([f"item {p}" for p in range(n)])] == [f"item {p}" for p in positions]


@pytest.mark.parametrize(
    ("batch_size", "batch_seconds", "window"),
    [
        (16, None, 4096),
        (100, None, 12800),
        (1024, None, 32768),
        (1024, 60.0, 4096),  # about 15 items
        (1024, 400.0, 12800),  # about 100
        (64, 400.0, 8192),
    ],
)
def test_a_window_has_many_batches(
    batch_size: int, batch_seconds: float | None, window: int
) -> None:
    durations = [2.0, 6.0] * 20_000
    work = Work(40_000, batch_size, None, durations, batch_seconds, True)
    order = work.new_order()
    assert order.window == order.ends[0] == window


@given(works())
def test_units_keep_both_bounds_and_do_not_cross_a_window(work: Work) -> None:
    order = work.new_order()
    plan, seconds = work.plan(order), work.seconds(order) or ()
    units = [*plan.units(0, plan.n_positions)]
    assert [stop for _, stop in units[:-1]] == [first for first, _ in units[1:]]
    assert (units[0][0], units[-1][1]) == (0, plan.n_positions)
    assert plan.n_units == len(units)
    for first, stop in units:
        assert 0 < stop - first <= (work.batch_size or 1)
        inside = [end for end in order.ends if first < end < stop]
        assert inside == []
        if work.batch_seconds is not None and stop - first > 1:
            assert (stop - first) * max(seconds[first:stop]) <= work.batch_seconds
    padded = sum((stop - first) * max(seconds[first:stop]) for first, stop in units)
    found = padding_of(plan, seconds)
    assert found.n_batches == len(units)
    assert abs(found.padded - padded) <= 1e-6 * max(1.0, padded)


@given(works(), st.data())
def test_whole_units_are_told_from_others_everywhere(work: Work, data: st.DataObject) -> None:
    plan = work.plan(work.new_order())
    bounds = {0, *(stop for _, stop in plan.units(0, plan.n_positions))}
    first = data.draw(st.integers(0, plan.n_positions - 1))
    stop = data.draw(st.integers(first + 1, plan.n_positions))
    assert plan.on_grid(first, stop) == (first in bounds and stop in bounds)
    assert plan.count(first, stop) == len([*plan.units(first, stop)])
    wanted = data.draw(st.integers(0, plan.n_positions))
    end = plan.align(first, wanted, stop)
    assert end == min(stop, min(b for b in bounds if b >= max(wanted, first + 1)))


@given(works(), st.integers(1, 90))
def test_a_limit_is_the_first_items_in_whole_units(work: Work, later: int) -> None:
    order = work.new_order()
    first = work.plan(order)
    n = work.n_positions
    if work.limit is not None and order:
        assert first.goal == min(work.limit, n)
    again = Work(n, work.batch_size, later, work.durations, work.batch_seconds).plan(order)
    assert again.goal >= min(later, n)
    assert sorted(order.positions(0, again.goal)) == [*range(again.goal)]
    assert again.on_grid(0, again.goal)


def test_nothing_is_made_where_there_are_no_durations() -> None:
    work = Work(100_000_000, 16, 20, any_order=True, batch_seconds=100.0)
    assert work.new_order() is AS_GIVEN
    plan = work.plan(AS_GIVEN)
    assert (plan.bounds, plan.goal, plan.n_units) == (None, 32, 6_250_000)
