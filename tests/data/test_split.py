"""Splits are seeded, exact in size, and leave everybody something to train on."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forwhy.data.split import carve_valid, split_by_time, split_last, split_pairs
from forwhy.errors import UserError


def test_sizes_are_exact_and_seeded() -> None:
    names = split_pairs(3000, seed=3)
    assert {name: int((names == name).sum()) for name in ("train", "valid", "test")} == {
        "train": 2400,
        "valid": 300,
        "test": 300,
    }
    assert (split_pairs(3000, seed=3) == names).all()
    assert (split_pairs(3000, seed=4) != names).any()


@settings(max_examples=50, deadline=None)
@given(owners=st.lists(st.integers(0, 9), max_size=60), seed=st.integers(0, 99))
def test_every_owner_keeps_a_training_row(owners: list[int], seed: int) -> None:
    keep = np.asarray(owners, dtype=np.int64)
    names = split_pairs(len(owners), seed, (0.2, 0.4, 0.4), keep)
    assert set(keep[names == "train"].tolist()) == set(owners)
    carved = carve_valid(names, 0.9, seed, keep)
    assert set(keep[carved == "train"].tolist()) == set(owners)
    assert ((carved == "test") == (names == "test")).all()


def test_bad_shares_are_the_callers_mistake() -> None:
    with pytest.raises(UserError, match="sum to 1"):
        split_pairs(10, 0, (0.5, 0.5, 0.5))
    with pytest.raises(UserError, match="validation share 1"):
        carve_valid(split_pairs(10), 1)


LOG = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=60)


@settings(max_examples=100, deadline=None)
@given(log=LOG)
def test_the_last_row_of_each_user_is_test_and_the_one_before_valid(log: list[tuple[int, int]]) -> None:
    users, times = np.array(log, dtype=np.int64).reshape(-1, 2).T
    names = split_last(users, times)
    wanted = np.full(len(log), "train")
    for user in set(users.tolist()):
        mine = sorted((time, row) for row, (owner, time) in enumerate(log) if owner == user)
        if len(mine) >= 3:
            wanted[mine[-1][1]], wanted[mine[-2][1]] = "test", "valid"
    assert names.tolist() == wanted.tolist()


@settings(max_examples=100, deadline=None)
@given(times=st.lists(st.integers(0, 30), max_size=60), test=st.integers(0, 5), valid=st.integers(0, 5))
@example(times=[0, 0, 0], test=5, valid=5)
def test_no_training_row_is_later_than_a_held_out_one(times: list[int], test: int, valid: int) -> None:
    shares = (1 - (test + valid) / 10, valid / 10, test / 10)
    names, moments = split_by_time(np.array(times, dtype=np.int64), shares), np.array(times)
    tested = round(len(times) * test / 10)
    assert (names == "test").sum() == tested
    assert (names == "valid").sum() == min(round(len(times) * valid / 10), len(times) - tested)
    for earlier, later in (("train", "valid"), ("train", "test"), ("valid", "test")):
        if (names == earlier).any() and (names == later).any():
            assert moments[names == earlier].max() <= moments[names == later].min()
