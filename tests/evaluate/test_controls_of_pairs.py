"""Controls that know the pair: the nearest neighbour's text, by hand; held-out texts reach none of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sample import little_town
from forwhy.errors import UserError
from forwhy.evaluate.controls import (
    known_controls,
    known_table,
    lookup_texts,
    nearest_texts,
    profile_texts,
)
from forwhy.evaluate.reading import Outputs, held_out_keys, match, read_outputs
from forwhy.text.encoder import HashEncoder

TAKEN = {"ann": "abc", "bob": "ab", "cem": "c", "dee": "d"}
"""Training items of each user."""
TOLD = [
    ("bob", "e", "bob on e", "train"),
    ("cem", "e", "cem on e", "train"),
    ("dee", "e", "dee on e", "valid"),
    ("ann", "a", "ann on a", "train"),
    ("ann", "d", "ann on d", "train"),
    ("ann", "e", "ann on e", "test"),
    ("dee", "f", "dee on f", "test"),
]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    edges = [(user, item, "train") for user, items in TAKEN.items() for item in items]
    edges += [(user, item, split) for user, item, _, split in TOLD if item in "ef"]
    edges += [("bob", "e", "train")] * (("bob", "e", "train") not in edges)
    names = ("user_id", "item_id", "split")
    return make_dataset(
        "small",
        {
            "interactions": pl.DataFrame(sorted(set(edges)), schema=names, orient="row"),
            "explanations": pl.DataFrame(TOLD, schema=("user_id", "item_id", "text", "split"), orient="row"),
            "items": pl.DataFrame({"item_id": list("abcdef"), "title": ["", "", "", "", "Eel bar", ""]}),
            "profiles": pl.DataFrame({"side": ["item"], "entity_id": ["a"], "text": ["a quiet place"]}),
        },
    )


def numbers(dataset: Dataset, pairs: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    users, items = zip(*pairs, strict=True)
    return dataset.users.numbers(users), dataset.items.numbers(items)


def test_nearest_by_hand(dataset: Dataset) -> None:
    """Ann shares a and b with Bob (of 3 and 3 items), c with Cem (of 3 and 2): Bob is nearer."""
    pairs = numbers(dataset, [("ann", "e"), ("dee", "e"), ("dee", "f"), ("cem", "e")])
    assert nearest_texts(dataset, *pairs) == ["bob on e", "bob on e", None, "bob on e"]


def test_nearest_by_user_by_hand(dataset: Dataset) -> None:
    """Item e was taken by Bob and Cem, a by Ann and Bob, d by Dee: of Ann's items a is nearest to e."""
    pairs = numbers(dataset, [("ann", "e"), ("dee", "f")])
    assert nearest_texts(dataset, *pairs, by_user=True) == ["ann on a", None]


def test_profiles_and_titles(dataset: Dataset) -> None:
    items = dataset.items.numbers(["a", "e", "b"])
    assert profile_texts(dataset, np.append(items, -1)) == ["a quiet place", "Eel bar", None, None]


def test_rows_that_are_no_pair_have_no_neighbour(dataset: Dataset) -> None:
    nobody = np.array([-1, -1])
    assert all(texts == [None, None] for texts in known_controls(dataset, nobody, nobody).values())


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000))
def test_held_out_texts_reach_no_neighbour(seed: int) -> None:
    town = little_town(users=30, items=12, visits=6, explanations=(60, 15, 15), seed=seed)
    for split in ("valid", "test"):
        pairs = town.pairs(split)
        held = {*town.pairs("valid").texts, *town.pairs("test").texts} - set(town.pairs("train").texts)
        controls = known_controls(town, pairs.users, pairs.items)
        told = {*controls["nearest_item"], *controls["nearest_user"]} - {None}
        assert told
        assert not told & held
        assert told <= set(town.pairs("train").texts)


def test_a_pair_without_a_neighbour_gets_the_constant_and_is_counted(dataset: Dataset) -> None:
    outputs = Outputs.of([("ann", "e"), ("dee", "f")], ["x", "y"], ["ann on e", "dee on f"])
    table = known_table(match("ours", outputs, dataset), dataset, None, 0)
    control = table.controls["nearest_item"]
    assert control.texts == ["bob on e", table.controls["constant"].sentence]
    assert control.fallbacks == 1
    assert table.controls["constant"].fallbacks is None
    unknown = known_table(match("ours", outputs, dataset), None, None, 0)
    assert set(unknown.controls) == {"constant_halves", "dealt"}


# --- matching


def test_ids_that_are_no_held_out_pair_are_counted(dataset: Dataset) -> None:
    pairs = [
        ("ann", "e"),
        ("dee", "e"),
        ("zoe", "e"),
        ("zoe", "zzz"),
        ("ann", "zzz"),
        ("bob", "e"),
        ("bob", "a"),
    ]
    outputs = Outputs.of(pairs, list("abcdefg"), list("abcdefg"))
    found = match("ours", outputs, dataset)
    assert found.pairs == [("ann", "e"), ("dee", "e")]
    assert found.exclusions == {"unknown_user": 2, "unknown_item": 1, "not_held_out": 2}
    assert set(found.keys) < held_out_keys(dataset)
    with pytest.raises(UserError, match="1 of 2 rows are held-out pairs of data set 'small'.*1 not_held_out"):
        match("ours", Outputs.of([("ann", "e"), ("bob", "a")], ["", ""], ["x", "x"]), dataset)


def test_lists_find_their_pair_by_the_reference(dataset: Dataset, tmp_path: Path) -> None:
    references = ["ann on e", "dee on e", "bob on e", "nobody", "dee on f", "dee on f"]
    (tmp_path / "said.txt").write_text("\n".join("abcdef"))
    (tmp_path / "right.txt").write_text("\n".join(references))
    reading = read_outputs(tmp_path / "said.txt", tmp_path / "right.txt")
    assert reading.pairs == [("row", row) for row in "132564"]
    found = match("list", reading, dataset)
    assert found.found == {"train": 1, "valid": 1, "test": 1, "ambiguous": 2, "unknown": 1}
    assert len(found) == 6
    assert found.pairs == [("ann", "e"), ("row", "3"), ("dee", "e"), *reading.pairs[3:]]
    assert found.keys == [("ann", "e"), ("", "bob on e", "0"), ("dee", "e"), *reading.keys[3:]]
    assert reading.keys[3:5] == [("", "dee on f", "0"), ("", "dee on f", "1")]
    rows, known = found.held_out()
    assert rows == [0, 2]
    assert known.texts == ("ann on e", "dee on e")


# --- the lookup


def test_lookup_prints_a_training_text_of_an_item_like_it(dataset: Dataset) -> None:
    town = little_town(users=60, items=30, visits=8, explanations=(200, 20, 20))
    pairs = town.pairs("test")
    texts = lookup_texts(town, np.append(pairs.items, -1), HashEncoder())
    assert texts[-1] is None
    assert set(texts[:-1]) <= set(town.pairs("train").texts)
    assert texts == lookup_texts(town, np.append(pairs.items, -1), HashEncoder())
    of_profile = dataset.items.numbers(["a", "b"])
    assert lookup_texts(dataset, of_profile, HashEncoder()) == ["ann on a", None], "nothing is known of b"
