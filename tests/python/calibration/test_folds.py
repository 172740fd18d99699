"""Parts of groups: no group is split, every row is held out once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from discffusion.calibration.folds import parts, splits


@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.integers(0, 3))
def test_a_group_is_never_split(names: list[int], seed: int) -> None:
    groups = np.array(names)
    held = list(parts(groups, (seed,)))
    assert (np.sum(held, axis=0) == 1).all()
    for part in held:
        assert not set(groups[part]) & set(groups[~part])
        assert part.any()


def test_parts_are_equally_large_and_set_by_the_seed() -> None:
    groups = np.repeat(np.arange(50), 3)
    first, again, other = (np.array(list(parts(groups, seed))) for seed in ((0, 1), (0, 1), (1, 1)))
    assert {int(part.sum()) for part in first} == {30}
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_few_groups_are_divided_more_often() -> None:
    for count, divisions in ((5, 3), (30, 2), (60, 1), (200, 1)):
        groups = np.repeat(np.arange(count), 2)
        assert len(splits(groups, np.ones(2 * count, bool), (0,))) == divisions


def test_splits_are_of_the_rows_alone() -> None:
    groups = np.repeat(np.arange(20), 4)
    rows = groups % 2 == 0
    for division in splits(groups, rows, (7,)):
        assert sorted(np.concatenate([split.held for split in division])) == np.flatnonzero(rows).tolist()
        for split in division:
            assert not (split.rows & ~rows).any() and not split.rows[split.held].any()
            assert not set(groups[split.rows]) & set(groups[split.held])
