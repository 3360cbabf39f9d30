"""Phrases and sentences cut out of texts, without a language model."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sample import TASTES, little_town, town_truth
from forwhy.errors import UserError
from forwhy.text.hostile import clean
from forwhy.text.mining.extractive import ExtractiveMiner
from forwhy.text.mining.mine import mine
from forwhy.text.mining.stage import MiningConfig, count_words, first_words


def told(*texts: str) -> Dataset:
    """One user who reviewed one item per text."""
    visits = pl.DataFrame({"user_id": "u", "item_id": [f"i{k}" for k in range(len(texts))], "split": "train"})
    reviews = visits.select("user_id", "item_id").with_columns(pl.Series("text", texts))
    return make_dataset("told", {"interactions": visits, "reviews": reviews})


def phrases(*texts: str, most: int = 10) -> list[str]:
    after = mine(told(*texts), MiningConfig(kind="intents", side="user", phrases=most), ExtractiveMiner())
    return after.dataset.phrases("user")[0]


def explanation(text: str, words: int = 50) -> str:
    config = MiningConfig(kind="explanations", explanation_words=words)
    return mine(told(text), config, ExtractiveMiner()).dataset.pairs("train").texts[0]


def test_what_is_said_often_comes_first_and_is_said_once() -> None:
    found = phrases("The live music was loud.", "Came for live music, again.", "Live music! And cold soup.")
    assert found[0].casefold() == "live music"
    assert sum("music" in phrase.casefold() for phrase in found) == 1
    assert "cold soup" in found


def test_phrases_do_not_cross_marks_or_function_words() -> None:
    assert set(phrases("Warm bread, strong coffee and tidy tables.")) == {
        "Warm bread",
        "strong coffee",
        "tidy tables",
    }


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("ラーメンが最高。", "このラーメンは安い。"), "ラーメン"),
        (("Вкусный борщ, тихий зал.", "Тихий зал."), "тихий зал"),
        (("कमरा शांत है।", "शांत कमरा"), "कमरा"),
        (("חדר שקט, חדר שקט",), "חדר שקט"),
    ],
)
def test_other_scripts_have_phrases_too(texts: tuple[str, ...], expected: str) -> None:
    found = [phrase.casefold() for phrase in phrases(*texts)]
    assert any(expected in phrase for phrase in found), found


def test_tastes_of_the_little_town_are_found() -> None:
    """A person's reviews name what they want most in their own words; so should the first phrases."""
    town = little_town(users=80, items=60, explanations=(700, 20, 20))
    truth, after = town_truth(town), mine(town, MiningConfig(kind="intents", side="user"), ExtractiveMiner())
    found, hits = after.dataset.phrases("user"), 0
    asked = {user for user in town.training_reviews().users.tolist()}
    for user in asked:
        wants = [TASTES[taste]["want"].casefold() for taste in truth.users["tastes"][user]]
        first = [phrase.casefold() for phrase in found[user][:3]]
        hits += any(set(want.split()) & set(phrase.split()) for want in wants for phrase in first)
    assert hits / len(asked) > 0.9


def test_an_explanation_is_whole_sentences_of_the_review_while_there_is_room() -> None:
    review = "Parking was hard. The noodles are hand-pulled and the noodle soup is rich! We sat outside."
    assert explanation(review) == review
    assert explanation(review, 12) == "The noodles are hand-pulled and the noodle soup is rich!"
    assert explanation(review, 5) == "The noodles are hand-pulled and"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300).map(str.strip).filter(bool), st.integers(5, 20))
def test_an_explanation_is_never_longer_and_adds_nothing(review: str, words: int) -> None:
    try:
        found = explanation(review, words)
    except UserError:  # nothing was mined: a review without a word that says anything
        assume(False)
    assert 1 <= count_words(found) <= words
    letters = iter(clean(review, 1_000))
    assert all(letter in letters for letter in found if not letter.isspace())  # a subsequence


def test_a_profile_says_where_its_phrases_are_from() -> None:
    after = mine(told("Warm bread."), MiningConfig(kind="profiles"), ExtractiveMiner()).dataset
    assert after.profiles("item") == {0: "Reviews of it mention: Warm bread."}
    assert after.profiles("user") == {0: "Writes about: Warm bread."}


def test_somebody_without_reviews_is_described_by_their_items() -> None:
    visits = pl.DataFrame({"user_id": ["u", "v"], "item_id": ["p", "p"], "split": ["train", "train"]})
    reviews = pl.DataFrame({"user_id": ["u"], "item_id": ["p"], "text": ["Warm bread."]})
    data = make_dataset("two", {"interactions": visits, "reviews": reviews})
    after = mine(data, MiningConfig(kind="profiles"), ExtractiveMiner()).dataset
    assert after.profiles("user")[1] == "Chose items described with: Warm bread."


def test_texts_without_a_word_are_counted() -> None:
    mining = mine(
        told("It was what it was.", "Warm bread."), MiningConfig(kind="explanations"), ExtractiveMiner()
    )
    assert mining.stages[0]["failed"] == {"no phrase": 1}


def test_provenance_names_no_model() -> None:
    mining = mine(told("Warm bread."), MiningConfig(kind="intents"), ExtractiveMiner())
    assert set(mining.dataset.tables["mined"]["model"]) == {"extractive"}
    assert set(mining.dataset.tables["mined"]["prompt"]) == {""}
    assert mining.document()["model"] == "extractive"


def test_the_same_twice() -> None:
    town = little_town(users=20, items=20, visits=6, explanations=(60, 4, 4))
    prints = {
        mine(town, MiningConfig(kind="profiles"), ExtractiveMiner()).dataset.fingerprint for _ in range(2)
    }
    assert len(prints) == 1


@given(st.text(max_size=80), st.integers(0, 30))
def test_the_first_words_are_a_beginning_with_as_many_words(text: str, count: int) -> None:
    found = first_words(text, count)
    assert text.startswith(found)
    assert count_words(found) == min(count, count_words(text))
