"""What counts as the same item list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet3.errors import ConfigError
from espnet3.parallel.engine.items import as_items, digest_items


@pytest.mark.parametrize(
    "items", [range(0), range(1), range(5), range(3, 4), range(2, 20, 3), range(5, -5, -2)]
)
def test_a_range_and_the_list_that_it_equals_are_one_item_list(items: range) -> None:
    assert digest_items(items) == digest_items(list(items)) == digest_items(tuple(items))


@given(st.lists(st.integers(-2, 3), max_size=4), st.lists(st.integers(-2, 3), max_size=4))
def test_digests_are_equal_exactly_for_equal_lists(one: list[int], other: list[int]) -> None:
    assert (digest_items(one) == digest_items(other)) == (one == other)


@given(
    st.builds(range, st.integers(-3, 3), st.integers(-3, 9), st.sampled_from([1, 2, -1])),
    st.lists(st.integers(-3, 9), max_size=5),
)
def test_a_range_differs_from_all_other_lists(one: range, other: list[int]) -> None:
    assert (digest_items(one) == digest_items(other)) == (list(one) == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a", "b"], ["b", "a"]),
        (["a", "b"], ["ab"]),
        ([1, 2, 3], ["1", "2", "3"]),
        ([0, 1], [False, True]),
        ([1, 2], [1.0, 2.0]),
        ([0, 1, 2], [0, 1, None]),
        ([[1, 2]], [1, 2]),
        (range(10**8), range(10**8 + 1)),
        (list(range(20_001)), [*range(20_000), 0]),
    ],
)
def test_other_lists_differ(one: list[object], other: list[object]) -> None:
    assert digest_items(one) != digest_items(other)


def test_a_range_stays_a_range_and_costs_nothing() -> None:
    items = range(10**15)
    assert as_items(items) is items
    assert len(digest_items(items)) < 40


def test_a_list_stays_the_list_that_it_is() -> None:
    items = ["a", "b"]
    assert as_items(items) is items


def test_an_array_of_numbers_is_the_list_of_its_values() -> None:
    items = as_items(np.arange(5))
    assert items == [0, 1, 2, 3, 4]
    assert digest_items(items) == digest_items(range(5))


def test_a_generator_is_read_once() -> None:
    assert as_items(f"utt{i}" for i in range(2)) == ["utt0", "utt1"]


@pytest.mark.parametrize(
    ("items", "where", "what"),
    [
        ([object()], "#0", "object"),
        ([*range(5), {1, 2}], "#5", "set"),
        (["a"] * 15_000 + [b"bytes"], "#15000", "bytes"),
        (list(np.arange(3)), "#0", "int64"),
    ],
)
def test_an_item_that_json_cannot_hold_is_named_by_its_position(
    items: list[object], where: str, what: str
) -> None:
    with pytest.raises(ConfigError, match=f"item {where} .*{what}.*JSON"):
        digest_items(items)
