"""Splits are seeded, exact in size, and leave everybody something to train on; filters equal naive ones."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from forwhy.data.split import (
    carve_valid,
    k_core,
    one_per,
    sample_users,
    split_by_time,
    split_last,
    split_pairs,
)
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


# --- Filters of rows


EDGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=60)
laws = settings(max_examples=200, deadline=None)


def columns(edges: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    users, items = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    return users, items


def naive_core(edges: list[tuple[int, int]], k: int) -> list[tuple[int, int]]:
    """Take away one row of somebody who has too few, until nobody has."""
    left = list(edges)
    while True:
        users, items = [user for user, _ in left], [item for _, item in left]
        weak = [edge for edge in left if users.count(edge[0]) < k or items.count(edge[1]) < k]
        if not weak:
            return left
        left.remove(weak[0])


@laws
@given(edges=EDGES, k=st.integers(1, 4), seed=st.integers(0, 9))
def test_the_core_is_the_naive_one_whatever_the_order(
    edges: list[tuple[int, int]], k: int, seed: int
) -> None:
    mask = k_core(*columns(edges), k)
    kept = [edge for edge, stays in zip(edges, mask, strict=True) if stays]
    assert kept == naive_core(edges, k)
    order = np.random.default_rng(seed).permutation(len(edges))
    shuffled = [edges[position] for position in order]
    assert (k_core(*columns(shuffled), k) == mask[order]).all()


@laws
@given(edges=EDGES, k=st.integers(1, 4))
def test_a_core_is_dense_and_its_own_core(edges: list[tuple[int, int]], k: int) -> None:
    users, items = columns(edges)
    mask = k_core(users, items, k)
    for side in (users[mask], items[mask]):
        assert all(count >= k for count in np.unique(side, return_counts=True)[1])
    assert k_core(users[mask], items[mask], k).all()
    assert (k_core(users, items, k + 1) <= mask).all()


@laws
@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9)), max_size=40))
def test_one_row_of_each_pair_stays_the_first_or_the_last_by_time(rows: list[tuple[int, int, int]]) -> None:
    users, items, times = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    for which, choose in (("first", min), ("last", max)):
        wanted = {
            choose((time, row) for row, (*other, time) in enumerate(rows) if other == [user, item])[1]
            for user, item, _ in rows
        }
        mask = one_per((users, items), times, which)  # type: ignore[arg-type]
        assert set(np.flatnonzero(mask).tolist()) == wanted
        assert one_per((users[mask], items[mask]), times[mask], which).all()  # type: ignore[arg-type]


@laws
@given(ids=st.sets(st.integers(0, 2**64 - 1), max_size=40), seed=st.integers(0, 99), count=st.integers(1, 50))
def test_a_sample_depends_on_ids_and_seed_alone_and_holds_smaller_ones(
    ids: set[int], seed: int, count: int
) -> None:
    digests = np.array(sorted(ids), dtype=np.uint64)
    drawn = set(digests[sample_users(digests, count, seed)].tolist())
    assert len(drawn) == min(count, len(ids))
    backwards = digests[::-1]
    assert set(backwards[sample_users(backwards, count, seed)].tolist()) == drawn
    assert drawn <= set(digests[sample_users(digests, count + 1, seed)].tolist())


def test_another_seed_draws_other_people_and_everybody_as_often() -> None:
    digests = np.arange(1000, dtype=np.uint64)
    times_drawn = sum(sample_users(digests, 100, seed).astype(int) for seed in range(400))
    assert abs(float(np.mean(times_drawn)) - 40) < 1e-9
    assert 4.5 < float(np.std(times_drawn)) < 7.5  # 6 for independent draws
