"""Splits are seeded, exact in size, and leave everybody something to train on; filters equal naive ones."""

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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
    assert set(keep[(names == "train").arg_true()].tolist()) == set(owners)
    carved = carve_valid(names, 0.9, seed, keep)
    assert set(keep[(carved == "train").arg_true()].tolist()) == set(owners)
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
    assert names.to_list() == wanted.tolist()


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
            assert moments[(names == earlier).arg_true()].max() <= moments[(names == later).arg_true()].min()


# --- Filters of rows


EDGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=60)
laws = settings(max_examples=200, deadline=None)


def log_of(rows: list[tuple[int, ...]]) -> pl.DataFrame:
    named = ("user", "item", "time")[: len(rows[0]) if rows else 3]
    return pl.DataFrame(rows, dict.fromkeys(named, pl.Int64), orient="row")


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
    assert k_core(log_of(edges), k).rows() == naive_core(edges, k)
    order = np.random.default_rng(seed).permutation(len(edges))
    shuffled = [edges[position] for position in order]
    assert k_core(log_of(shuffled), k).rows() == naive_core(shuffled, k)
    assert sorted(naive_core(shuffled, k)) == sorted(naive_core(edges, k))


@laws
@given(edges=EDGES, k=st.integers(1, 4))
def test_a_core_is_dense_and_its_own_core(edges: list[tuple[int, int]], k: int) -> None:
    core = k_core(log_of(edges), k)
    for side in ("user", "item"):
        assert all(count >= k for count in core[side].value_counts()["count"])
    assert k_core(core, k).equals(core)
    assert set(k_core(log_of(edges), k + 1).rows()) <= set(core.rows())


@laws
@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9)), max_size=40))
def test_one_row_of_each_pair_stays_the_first_or_the_last_by_time(rows: list[tuple[int, int, int]]) -> None:
    log = log_of(rows)
    for which, choose in (("first", min), ("last", max)):
        wanted = {
            choose((time, row) for row, (*other, time) in enumerate(rows) if other == [user, item])[1]
            for user, item, _ in rows
        }
        mask = one_per(log, ("user", "item"), which)  # type: ignore[arg-type]
        assert set(mask.arg_true()) == wanted
        assert one_per(log.filter(mask), ("user", "item"), which).all()  # type: ignore[arg-type]


@laws
@given(ids=st.sets(st.integers(0, 2**64 - 1), max_size=40), seed=st.integers(0, 99), count=st.integers(1, 50))
def test_a_sample_depends_on_ids_and_seed_alone_and_holds_smaller_ones(
    ids: set[int], seed: int, count: int
) -> None:
    digests = pl.Series(sorted(ids), dtype=pl.UInt64)
    drawn = set(sample_users(digests, count, seed))
    assert len(drawn) == min(count, len(ids))
    assert set(sample_users(digests.reverse(), count, seed)) == drawn
    assert drawn <= set(sample_users(digests, count + 1, seed))


def test_another_seed_draws_other_people_and_everybody_as_often() -> None:
    digests = pl.Series(range(1000), dtype=pl.UInt64)
    times_drawn = np.zeros(1000)
    for seed in range(400):
        times_drawn[sample_users(digests, 100, seed).to_numpy()] += 1
    assert abs(float(np.mean(times_drawn)) - 40) < 1e-9
    assert 4.5 < float(np.std(times_drawn)) < 7.5  # 6 for independent draws
