"""Splits are seeded, exact in size, and leave everybody something to train on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.data.split import carve_valid, split_pairs
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
