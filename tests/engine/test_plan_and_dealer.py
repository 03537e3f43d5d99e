"""Units lie on a grid; leases are whole units, as long as they should be, and lose nothing."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet3.parallel.engine.dealer import Dealer, Lease
from espnet3.parallel.engine.lengths import Lengths
from espnet3.parallel.engine.plan import Plan
from espnet3.parallel.engine.work import Work


@given(n=st.integers(1, 50), size=st.integers(1, 9), at=st.integers(0, 49))
def test_units_lie_on_a_grid_of_the_batch_size(n: int, size: int, at: int) -> None:
    plan, first = Plan(n, size), min(at, n - 1)
    stop = plan.unit_stop(first, n)
    assert first < stop <= n
    assert stop == n or stop % size == 0
    assert stop - first <= size
    whole = first // size * size
    assert plan.on_grid(whole, plan.unit_stop(whole, n))
    assert plan.on_grid(first, stop) == (first % size == 0)


def test_single_items_are_units_of_one() -> None:
    plan = Plan(5)
    assert [plan.unit_stop(p, 5) for p in range(5)] == [1, 2, 3, 4, 5]
    assert plan.on_grid(2, 4)


@pytest.mark.parametrize(
    ("limit", "goal"), [(None, 10), (0, 4), (1, 4), (4, 4), (5, 8), (9, 10), (10, 10), (99, 10)]
)
def test_a_limit_is_rounded_up_to_whole_units(limit: int | None, goal: int) -> None:
    assert Plan(10, 4, limit).goal == goal


@given(n=st.integers(1, 60), size=st.integers(1, 9), data=st.data())
def test_align_gives_whole_units_and_at_least_one(n: int, size: int, data: st.DataObject) -> None:
    plan = Plan(n, size)
    first = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(first + 1, n))
    end = plan.align(first, data.draw(st.integers(0, n)), stop)
    assert first < end <= stop
    assert end == stop or end % size == 0


def deal_all(dealer: Dealer, elapsed: float = 0.0) -> list[Lease]:
    leases = []
    while (lease := dealer.deal(elapsed)) is not None:
        leases.append(lease)
    return leases


def test_without_durations_a_lease_is_a_share_of_what_is_left() -> None:
    leases = deal_all(Dealer(Plan(1000), [(0, 1000)], workers=5))
    lengths = [lease.stop - lease.first for lease in leases]
    assert lengths[:3] == [100, 90, 81]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] == 1
    assert [lease.number for lease in leases] == list(range(len(leases)))


def test_one_worker_gets_all_that_is_left() -> None:
    (lease,) = deal_all(Dealer(Plan(1000), [(0, 1000)], workers=1))
    assert (lease.first, lease.stop) == (0, 1000)


def test_leases_are_whole_units_but_where_the_remaining_range_is_not() -> None:
    plan = Plan(103, 8)
    for lease in deal_all(Dealer(plan, [(3, 50), (64, 103)], workers=3)):
        assert lease.first % 8 == 0 or lease.first == 3
        assert lease.stop % 8 == 0 or lease.stop in (50, 103)


@pytest.mark.parametrize(
    ("elapsed", "seconds"), [(0, 1), (3, 1), (8, 2), (100, 25), (240, 60), (9999, 60)]
)
def test_the_time_of_a_lease_grows_with_the_run(elapsed: float, seconds: float) -> None:
    lease = Dealer(Plan(9), [(0, 9)], lease_seconds=60, workers=2).deal(elapsed)
    assert lease is not None
    assert lease.seconds == seconds


def test_a_lease_bound_below_a_second_holds_from_the_start() -> None:
    lease = Dealer(Plan(9), [(0, 9)], lease_seconds=0.5).deal(0)
    assert lease is not None
    assert lease.seconds == 0.5


def test_a_lease_is_worth_its_commit_and_doable_in_its_time() -> None:
    """Known is what a position takes on average; the share alone would be 50 positions."""

    def length(per_position: float) -> int:
        lease = Dealer(Plan(1000), [(0, 1000)], workers=10).deal(4.0, per_position)
        assert lease is not None
        return lease.stop - lease.first

    assert length(0.01) == 50
    assert length(0.0001) == 1000  # 0.1 s of work
    assert length(0.1) == 20  # twice the lease's second: the rest comes back
    assert length(100.0) == 1


def test_known_durations_deal_the_longest_stand_outs_alone_and_first() -> None:
    durations = [1.0] * 100
    durations[40], durations[7], durations[93] = 30.0, 50.0, 20.0
    dealer = Dealer(Plan(100), [(0, 100)], workers=2, lengths=Lengths(durations))
    leases = deal_all(dealer)
    assert [(x.first, x.stop) for x in leases[:3]] == [(7, 8), (40, 41), (93, 94)]
    assert {p for x in leases for p in range(x.first, x.stop)} == set(range(100))


def test_known_durations_that_are_alike_have_no_stand_outs() -> None:
    (first, *_) = deal_all(Dealer(Plan(100), [(0, 100)], workers=2, lengths=Lengths([1.0] * 100)))
    assert (first.first, first.stop) == (0, 12)  # 100 s / (4 * workers)


def test_stand_outs_are_whole_units() -> None:
    durations = [1.0] * 40
    durations[18] = 60.0
    first = Dealer(Plan(40, 4), [(0, 40)], workers=2, lengths=Lengths(durations)).deal(0)
    assert first is not None
    assert (first.first, first.stop) == (16, 20)


def test_with_durations_the_longest_remaining_range_is_next() -> None:
    durations = [0.6] * 50 + [1.0] * 50
    lease = Dealer(Plan(100), [(0, 50), (60, 100)], workers=4, lengths=Lengths(durations)).deal(0)
    assert lease is not None
    assert lease.first == 60


def test_what_comes_back_is_dealt_again_and_joined_with_its_neighbours() -> None:
    dealer = Dealer(Plan(10), [(0, 10)])
    lease = dealer.deal(0)
    assert lease is not None
    assert dealer.out == [lease]
    assert dealer.settle(lease.number) is lease
    assert dealer.out == []
    dealer.give_back(4, 7)
    dealer.give_back(7, 10)
    again = dealer.deal(0)
    assert again is not None
    assert (again.first, again.stop, again.alone) == (4, 10, False)


def test_what_comes_back_alone_is_the_next_lease_and_one_unit() -> None:
    dealer = Dealer(Plan(100), [(0, 50)], workers=2)
    dealer.give_back_alone(60, 63)
    assert dealer.n_left == 53
    lease = dealer.deal(0)
    assert lease is not None
    assert (lease.first, lease.stop, lease.alone) == (60, 63, True)


def test_a_lease_is_settled_once() -> None:
    dealer = Dealer(Plan(3), [(0, 3)])
    lease = dealer.deal(0)
    assert lease is not None
    dealer.settle(lease.number)
    with pytest.raises(KeyError):
        dealer.settle(lease.number)


def test_nothing_to_deal() -> None:
    dealer = Dealer(Plan(5), [], workers=2, lengths=Lengths([1.0] * 5))
    assert dealer.deal(0) is None
    assert dealer.n_left == 0


@pytest.mark.parametrize("seed", range(200))
def test_every_position_is_dealt_exactly_once_at_a_time(seed: int) -> None:
    """At every moment a position is done, out with one worker, or left; in the end it is done."""
    rng = random.Random(seed)
    n = rng.randint(1, 80)
    cuts = sorted(rng.sample(range(n + 1), min(n + 1, 2 * rng.randint(1, 4))))
    remaining = [(0, n)] if rng.random() < 0.5 else list(zip(cuts[::2], cuts[1::2], strict=False))
    durations = [rng.lognormvariate(0, 1) for _ in range(n)] if rng.random() < 0.5 else None
    most = rng.choice([None, 3.0])
    work = Work(n, rng.choice([None, 1, 3, 8]), None, durations, most, rng.random() < 0.5, 20)
    dealer = Dealer(
        work.plan(work.new_order()),
        remaining,
        workers=rng.randint(1, 5),
        lengths=None if durations is None else Lengths(durations),
    )
    goal = {p for first, stop in remaining for p in range(first, stop)}
    done: set[int] = set()
    while len(done) < len(goal):
        lease = dealer.deal(rng.uniform(0, 500), rng.choice([0.0, 0.01, 1.0]))
        out = [p for x in dealer.out for p in range(x.first, x.stop)]
        assert len(out) == len(set(out))
        assert set(out) <= goal - done
        assert dealer.n_left + len(out) + len(done) == len(goal)
        if dealer.out and (lease is None or rng.random() < 0.6):
            settled = dealer.settle(rng.choice(dealer.out).number)
            at = rng.randint(settled.first, settled.stop)
            done |= set(range(settled.first, at))
            again = dealer.give_back_alone if rng.random() < 0.2 else dealer.give_back
            if at < settled.stop:
                again(at, settled.stop)
    assert done == goal
    assert dealer.deal(0) is None
