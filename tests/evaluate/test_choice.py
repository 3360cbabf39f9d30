"""Whose is it, of two: right and wrong by hand, chance without a signal, only held-out texts for a model."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from forwhy.data.dataset import Dataset, Pairs, make_dataset
from forwhy.data.sample import little_town
from forwhy.evaluate.choice import FEWEST, chosen, couples, two_choice, whose_profile
from forwhy.evaluate.document import evaluation_document
from forwhy.explain.evidence import NllResult
from forwhy.text.encoder import HashEncoder


@pytest.fixture(scope="module")
def town() -> Dataset:
    return little_town(users=80, items=20, visits=8, explanations=(60, 60, 60))


class Histories:
    """Representations of newcomers that say which items they took, or nothing."""

    def __init__(self, items: int, blind: bool = False) -> None:
        self.items, self.blind = items, blind

    def representation_for_history(self, items: list[int]) -> np.ndarray:
        found = np.zeros(self.items)
        found[[0] if self.blind else items] = 1
        return found


class Reader:
    """An explainer that finds a text likely under one of the users, whatever else it is asked."""

    def __init__(self, dataset: Dataset, knows: bool) -> None:
        self.written = {
            row for pairs in map(dataset.pairs, ("valid", "test")) for row in _rows(pairs, pairs.users)
        }
        self.knows, self.asked = knows, set[str]()

    def nll(self, pairs: Pairs, user_rows: np.ndarray | None = None, item_rows: None = None) -> NllResult:
        assert item_rows is None
        self.asked |= set(pairs.texts)
        users = pairs.users if user_rows is None else user_rows
        own = np.array([row in self.written for row in _rows(pairs, users)])
        lost = len(pairs.texts[0]) + users * 3.0 + (~own if self.knows else own)
        return NllResult(lost.astype(np.float64), np.ones(len(pairs), dtype=np.int64))


def _rows(pairs: Pairs, users: np.ndarray) -> list[tuple[int, int, str]]:
    return list(zip(users.tolist(), pairs.items.tolist(), pairs.texts, strict=True))


def test_chosen_by_hand() -> None:
    assert chosen(np.array([0.1, -3.0, 0.0])).tolist() == [1.0, 0.0, 0.5]


def test_couples_are_two_people_on_one_item() -> None:
    pairs = Pairs(np.array([1, 2, 1, 1, 3, 4]), np.array([7, 7, 7, 8, 8, 8]), ("a", "b", "c", "d", "e", "e"))
    found = {frozenset(two) for two in zip(*(rows.tolist() for rows in couples(pairs)), strict=True)}
    assert found == {frozenset({0, 1}), frozenset({1, 2}), frozenset({3, 4}), frozenset({3, 5})}
    assert len(couples(pairs.select([0, 2]))[0]) == 0


@pytest.mark.parametrize(("knows", "share"), [(True, 1.0), (False, 0.0)])
def test_a_model_is_right_where_it_knows_the_author_and_reads_held_out_texts_only(
    town: Dataset, knows: bool, share: float
) -> None:
    """Neither texts that are likely anyway nor users whom everything fits change that."""
    reader = Reader(town, knows)
    found = two_choice(town, HashEncoder(), reader)
    assert found is not None
    assert found["text by model"] == share
    assert found["intervals"]["text by model"] == [share, share]
    assert found["choices"]["text by model"] >= FEWEST
    assert reader.asked <= {*town.pairs("valid").texts, *town.pairs("test").texts}
    assert evaluation_document(two_choice=found)["two_choice"] == found


def bar(*profiles: tuple[str, str]) -> Dataset:
    """One place, of which four people say why they like it."""
    rows = [(user, "bar", f"good {user} here", "train") for user in ("tea", "cake", "beer", "wine")]
    told = pl.DataFrame(rows, schema=("user_id", "item_id", "text", "split"), orient="row")
    known = pl.DataFrame(
        [("user", *one) for one in profiles], schema=("side", "entity_id", "text"), orient="row"
    )
    return make_dataset("bar", {"interactions": told.drop("text"), "explanations": told, "profiles": known})


def test_profiles_choose_by_likeness() -> None:
    likes = [("tea", "likes tea"), ("cake", "wants cake"), ("beer", "drinks beer"), ("wine", "loves wine")]
    found = two_choice(bar(*likes), HashEncoder())
    assert found is not None
    assert (found["text by profile"], found["choices"]) == (1.0, {"text by profile": 6})
    few = two_choice(bar(*likes[:3]), HashEncoder())
    assert few is None, "three couples say nothing"


def asked(town: Dataset, unread: Sequence[int], blind: bool = False) -> dict:
    histories = Histories(len(town.items), blind)
    return two_choice(town, HashEncoder(), None, histories, unread) or {}  # type: ignore[arg-type]


def test_likes_are_told_by_what_a_history_says_and_by_nothing_else(town: Dataset) -> None:
    everybody = range(len(town.users))
    seeing, blind = asked(town, everybody), asked(town, everybody, blind=True)
    assert seeing["intervals"]["like by history"][0] > 0.5
    assert seeing["like by history"] == seeing["like by items"] == blind["like by items"]
    assert blind["like by history"] == pytest.approx(0.5, abs=0.01)


def test_only_people_whose_likes_were_not_read_are_asked_about(town: Dataset) -> None:
    assert asked(town, range(30))["choices"]["like by history"] == 30
    assert "like by history" not in asked(town, range(9)), "too few for a map from others"
    intents = town.table("intents").with_columns(attitude=pl.lit("dislike"))
    disliked = replace(town, tables={**town.tables, "intents": intents})
    assert "like by history" not in asked(disliked, range(len(town.users)))


def test_a_profile_is_held_against_the_own_one_and_against_others() -> None:
    """By hand; what could be said of anybody gets nothing, whatever it says."""
    own = ["old maps", "loud drums", "wild rivers", "warm bread", "tall ships", "red barns"]
    encoder = HashEncoder()
    cosines = encoder.encode(own) @ encoder.encode(own).T
    found = whose_profile(own, own, encoder)
    assert found is not None
    assert found["people"] == len(own)
    assert found["right"] == pytest.approx(
        1 - (cosines.sum() - len(own)) / (len(own) * (len(own) - 1)), abs=1e-5
    )
    assert found["intervals"]["right"][0] > 0.5 > 0 > found["shuffled"]
    general = whose_profile(["likes good things"] * len(own), own, encoder)
    assert general is not None
    assert general["right"] == pytest.approx(0, abs=1e-6)
    assert general["shuffled"] == pytest.approx(0, abs=1e-6)
    assert whose_profile(own[: FEWEST - 1], own[: FEWEST - 1], encoder) is None
