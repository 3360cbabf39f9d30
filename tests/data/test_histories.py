"""Histories are in time order, leave one out, and cut, shuffle and extend as plain lists do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.histories import Histories, Sequences
from forwhy.data.sources.papers import import_lcrec
from forwhy.errors import UserError

ROWS = st.lists(st.lists(st.integers(0, 9), max_size=7), min_size=1, max_size=6)


def dataset(rows: list[tuple[str, str, int, str]], **tables: pl.DataFrame) -> Dataset:
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "split"], orient="row")
    return make_dataset("toy", {"interactions": frame, **tables}, {}, duplicates="keep")


def lists(histories: Histories) -> list[list[int]]:
    return [histories[row].tolist() for row in range(len(histories))]


TOY = [
    ("b", "x", 5, "valid"),
    ("b", "z", 9, "test"),
    ("b", "y", 3, "train"),
    ("a", "x", 7, "train"),
    ("b", "x", 1, "train"),
    ("c", "w", 1, "train"),
    ("c", "w", 2, "train"),
    ("c", "y", 2, "train"),
]


def test_order_follows_timestamps_then_rows() -> None:
    found = Sequences.from_dataset(dataset(TOY))
    assert lists(found.train) == [[1], [1, 2], [0, 0, 2]]  # items w x y z, repeats kept
    assert found.valid.tolist() == [-1, 1, -1]
    assert found.test.tolist() == [-1, 3, -1]
    assert found.n_items == 4


def test_who_is_evaluated_and_what_may_be_seen() -> None:
    found = Sequences.from_dataset(dataset(TOY))
    assert found.evaluated("test").tolist() == [1]
    assert found.skipped("test") == found.skipped("valid") == 2
    assert lists(found.histories("valid")) == [[1], [1, 2], [0, 0, 2]]
    assert lists(found.histories("test")) == [[1], [1, 2, 1], [0, 0, 2]]


def test_withheld_explanations_leave_the_history() -> None:
    texts = pl.DataFrame({"user_id": ["c"], "item_id": ["y"], "text": ["good"], "split": ["test"]})
    told = dataset(TOY, explanations=texts)
    assert lists(Sequences.from_dataset(told).train)[2] == [0, 0]
    assert lists(Sequences.from_dataset(told, "as-published").train)[2] == [0, 0, 2]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([*TOY, ("b", "y", 10, "test")], "'b' has 2 test"),
        ([*TOY, ("b", "y", 4, "valid")], "'b' has 2 valid"),
        ([*TOY, ("b", "y", 6, "train")], "'b' has a valid interaction before a train one"),
        ([("a", "x", 2, "valid"), ("a", "y", 1, "test")], "'a' has a test interaction before a valid one"),
    ],
)
def test_what_is_no_next_item_is_refused(rows: list[tuple[str, str, int, str]], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Sequences.from_dataset(dataset(rows))


def test_data_without_order_are_refused() -> None:
    frame = pl.DataFrame({"user_id": ["a"], "item_id": ["x"], "split": ["train"]})
    with pytest.raises(UserError, match="'toy': interactions have no timestamp"):
        Sequences.from_dataset(make_dataset("toy", {"interactions": frame}, {}))


def test_an_import_of_lcrec_leaves_the_last_two_out(tmp_path: Path) -> None:
    (tmp_path / "T.inter.json").write_text('{"0": [4, 2, 4, 9], "1": [2, 4], "2": [9], "3": [2, 9, 4]}')
    found = Sequences.from_dataset(import_lcrec(tmp_path))
    assert lists(found.train) == [[1, 0], [0, 1], [2], [0]]
    assert found.valid.tolist() == [1, -1, -1, 2]
    assert found.test.tolist() == [2, -1, -1, 1]


@given(ROWS, st.integers(1, 8), st.integers(0, 99))
def test_histories_are_lists(rows: list[list[int]], window: int, seed: int) -> None:
    histories = Histories.of(rows)
    assert lists(histories) == rows
    assert lists(histories.last(window)) == [row[-window:] for row in rows]
    chosen = np.random.default_rng(seed).integers(0, len(rows), 5)
    assert lists(histories.take(chosen)) == [rows[row] for row in chosen]
    more = np.random.default_rng(seed).integers(-1, 3, len(rows))
    assert lists(histories.extended(more)) == [
        row + [item] * (item >= 0) for row, item in zip(rows, more.tolist(), strict=True)
    ]
    assert histories.ages.tolist() == [age for row in rows for age in range(len(row))[::-1]]
    padded = histories.padded()
    assert padded.shape == (len(rows), max(1, *map(len, rows), 0))
    for row, filled in zip(rows, padded.tolist(), strict=True):
        assert filled == row + [0] * (len(filled) - len(row))


@given(ROWS, st.integers(0, 99))
def test_shuffling_keeps_each_row_its_items(rows: list[list[int]], seed: int) -> None:
    shuffled = lists(Histories.of(rows).shuffled(seed))
    assert [sorted(row) for row in shuffled] == [sorted(row) for row in rows]
    assert lists(Histories.of(rows).shuffled(seed)) == shuffled


def test_shuffling_reaches_every_order() -> None:
    orders = {tuple(row) for row in lists(Histories.of([[1, 2, 3]] * 200).shuffled(0))}
    assert len(orders) == 6


def test_the_fingerprint_tells_everything_apart() -> None:
    found = Sequences.from_dataset(dataset(TOY))
    others = [
        replace(found, train=found.train.extended(np.array([1, -1, -1]))),
        replace(found, valid=found.valid + 1),
        replace(found, test=found.test + 1),
        replace(found, n_items=5),
    ]
    assert len({part.fingerprint() for part in [found, *others]}) == 5
    assert Sequences.from_dataset(dataset(TOY)).fingerprint() == found.fingerprint()
