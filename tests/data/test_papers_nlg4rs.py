"""PETER's and PEPLER's layout: reviews in a pickle, splits as positions in text files."""

import pickle
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forwhy.data.dataset import Dataset
from forwhy.data.sources import import_nlg4rs
from forwhy.errors import UserError
from forwhy.evaluate.controls import known_table, told_features
from forwhy.evaluate.reading import Outputs, match

TOLD = [
    ("ann", "hotel-1", 4, "room"), ("ann", "hotel-2", 5, "pool"), ("ben", "hotel-1", 2, "noise"),
    ("ben", "hotel-3", 3, "staff"), ("cleo", "hotel-2", 5, "pool"), ("cleo", "hotel-3", 4, "bar"),
]  # fmt: skip
SPLIT = {"train": [0, 3, 5], "validation": [1], "test": [2, 4]}


def review(user: str, item: str, rating: float, feature: str) -> dict[str, Any]:
    return {
        "user": user, "item": item, "rating": rating,
        "template": (feature, "good", f"the {feature} was what {user} liked", 1),
    }  # fmt: skip


def written(folder: Path, reviews: object = None, split: dict[str, list[Any]] | None = None) -> Path:
    (folder / "1").mkdir(parents=True)
    told = [review(*it) for it in TOLD] if reviews is None else reviews
    (folder / "reviews.pickle").write_bytes(pickle.dumps(told))
    for part, rows in (SPLIT | (split or {})).items():
        (folder / "1" / f"{part}.index").write_text(" ".join(map(str, rows)))
    return folder


@pytest.fixture
def hotels(tmp_path: Path) -> Dataset:
    return import_nlg4rs(written(tmp_path / "hotels"))


def test_every_review_is_an_interaction_and_an_explanation_of_its_split(hotels: Dataset) -> None:
    for part, rows in SPLIT.items():
        split = {"validation": "valid"}.get(part, part)
        told = hotels.table("explanations").filter(pl.col("split") == split)
        kept = hotels.table("interactions").filter(pl.col("split") == split)
        assert told.select("user_id", "item_id", "features").rows() == [
            (TOLD[row][0], TOLD[row][1], TOLD[row][3]) for row in sorted(rows)
        ]
        assert kept["rating"].to_list() == [float(TOLD[row][2]) for row in sorted(rows)]
    assert hotels.pairs("test").texts == ("the noise was what ben liked", "the pool was what cleo liked")


def test_a_pair_that_was_reviewed_twice_stays_in_its_earliest_split(tmp_path: Path) -> None:
    again = [review(*it) for it in (*TOLD, ("ann", "hotel-1", 1, "price"))]
    found = import_nlg4rs(written(tmp_path / "h", again, {"test": [2, 4, 6]}))
    told = found.table("explanations").filter(user_id="ann", item_id="hotel-1")
    assert told.select("split", "features").rows() == [("train", "room")]


def test_texts_are_held_against_the_features_of_their_pairs(hotels: Dataset) -> None:
    outputs = match(
        "run",
        Outputs.of(
            [("ben", "hotel-1"), ("cleo", "hotel-2")],
            ["the noise there", "a fine bar"],
            list(hotels.pairs("test").texts),
        ),
        hotels,
    )
    table = known_table(outputs, hotels, None, 0).method.corpus
    assert table["fmr"] == 0.5, "noise is named, pool is not"
    assert table["fcr"] == 2 / len({it[3] for it in TOLD}), "noise and bar of all features"
    assert table["div"] == 0.0


def test_a_data_set_without_features_has_none(hotels: Dataset, tmp_path: Path) -> None:
    bare = import_nlg4rs(written(tmp_path / "b", [review(*it[:3], "") for it in TOLD]))
    outputs = Outputs.of([("ben", "hotel-1")], ["x"], ["y"])
    assert told_features(outputs, bare) is None


@pytest.mark.parametrize(
    ("reviews", "split", "said"),
    [
        ([], {}, "not a list of reviews"),
        ([{"user": "ann"}], {}, "row 1: not a review with user, item, rating"),
        ([review(*TOLD[0]) | {"template": ("room", "good")}], {}, "row 1: not a review"),
        (None, {"test": [2, 4, 5]}, "each once and in one file"),
        (None, {"test": [2, 99]}, "positions from 0 to 5"),
        (None, {"test": ["two"]}, "positions from 0 to 5"),
        (None, {"test": [2]}, "row 5 of reviews.pickle is in no index file"),
        (None, {"test": []}, "test.index: empty file"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, reviews: object, split: dict[str, list[Any]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        import_nlg4rs(written(tmp_path / "h", reviews, split))


def test_a_missing_fold_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2/train.index: no such file"):
        import_nlg4rs(written(tmp_path / "h"), fold=2)
